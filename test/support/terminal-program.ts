/**
 * A program for the tests of the live status: a run of made-up events with a status and a log on its terminal. Its
 * argument says how it ends: `finish`, or `wait` for a signal.
 */
import {
  canShowStatus,
  createTerminalStatus,
} from '../../src/coordinator/observers/terminal-status.js';
import { createLog } from '../../src/shared/node/log.js';
import * as events from './run-events.js';

const log = createLog({ level: 'info' });
const status = canShowStatus(process.stdout)
  ? createTerminalStatus({ log, stream: process.stdout })
  : null;
status?.observe(events.started());
status?.observe(events.joined('anna'));
let globalStep = 0;
const timer = setInterval(() => {
  status?.observe(events.step(globalStep));
  if (globalStep % 20 === 0) log.info(`line ${globalStep}`);
  globalStep++;
  if (globalStep <= 100 || process.argv[2] !== 'finish') return;
  clearInterval(timer);
  status?.close();
  log.info('done');
  void log.close();
}, 5);
