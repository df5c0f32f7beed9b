/** `lockstep summary`: the model as a table. */
import { buildModel } from '../model/lenet.js';
import { fromUser } from '../shared/errors.js';
import { formatSummary } from '../model/summary.js';
import { optionCommand } from './command.js';

export function summaryCommand() {
  return optionCommand(
    'summary',
    'show the layers of the model, their weights and multiply–adds',
    '--channels 8,16 --hidden 64',
    ({ values }) => console.log(formatSummary(fromUser(() => buildModel(values)))),
  );
}
