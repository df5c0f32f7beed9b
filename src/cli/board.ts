/** `lockstep board`: finished runs in the browser. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createBoard } from '../coordinator/page/board.js';
import { Gate } from '../coordinator/page/gate.js';
import { openStoredRun } from '../coordinator/run/stored-run.js';
import { listenError } from '../shared/node/listen-error.js';
import { systemClock } from '../shared/clock.js';
import { UserError } from '../shared/errors.js';
import { optionCommand } from './command.js';
import { stopSignal } from './signals.js';
import { warn } from './warn.js';

/** Compared at once; more curves cannot be told apart. */
const MAX_RUNS = 8;
const MAX_CONNECTIONS = 256;

export function boardCommand() {
  return optionCommand(
    'board',
    'serve the page of finished runs, and compare several',
    'runs/first runs/second',
    async ({ values: { host, port, dataset, allowedHosts = [] } }, paths) => {
      const stop = stopSignal();
      const found = (await Promise.all(paths.map(runDirectories))).flat();
      if (found.length > MAX_RUNS) {
        throw new UserError(`Cannot compare ${found.length} runs: at most ${MAX_RUNS} at a time`);
      }
      const opened = await Promise.all(
        found.map(async ({ dir, isNamed }) => {
          try {
            return await openStoredRun(dir, {
              warn: (message) => warn(`${dir}: ${message}`),
              ...(dataset !== undefined && { dataset }),
            });
          } catch (error) {
            // One that was not asked for by its name does not keep the others from being shown.
            if (isNamed || found.length === 1 || !(error instanceof UserError)) throw error;
            warn(error.message);
            return [];
          }
        }),
      );
      const runs = opened.flat();
      if (runs.length === 0)
        throw new UserError(`Cannot show ${paths.join(', ')}: no run can be read`);
      const board = await createBoard(runs);
      // Anyone who reaches the port may look, but no other site may through their browser.
      const gate = new Gate({
        ...{ joiningToken: null, lookingToken: null, key: new Uint8Array(32) },
        ...{ allowedHosts: [host, ...allowedHosts], clock: systemClock },
      });
      const server = createServer((request, response) => {
        if (gate.turnsAway(request, response) || board.handle(request, response)) return;
        response.writeHead(404).end('Not found\n');
      });
      server.maxConnections = MAX_CONNECTIONS;
      await new Promise<void>((resolve, reject) => {
        server.once('error', (error) => {
          reject(new UserError(listenError(error, host, port), { cause: error }));
        });
        server.listen(port, host, resolve);
      });
      const name = host === '0.0.0.0' || host === '::' ? hostname() : host;
      const address = name.includes(':') ? `[${name}]` : name;
      const { port: actualPort } = server.address() as AddressInfo;
      process.stdout.write(`${runs.map((run) => run.name).join(', ')}: `);
      process.stdout.write(`http://${address}:${actualPort}/ until Ctrl-C\n`);
      if (!stop.aborted) {
        await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }));
      }
      board.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  ).argument('<runs...>', 'run directories, or a folder of them (its latest 8)');
}

interface FoundRun {
  readonly dir: string;
  /** Whether the user named it, rather than a folder that it is in. */
  readonly isNamed: boolean;
}

/** The directory itself if it holds a run, else the latest runs in it. */
async function runDirectories(path: string): Promise<FoundRun[]> {
  if (await isRun(path)) return [{ dir: path, isNamed: true }];
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code;
    throw new UserError(
      `Cannot show ${path}: ${why === 'ENOTDIR' ? 'it is no directory' : 'there is no such directory'}`,
      { cause: error },
    );
  }
  const found: { dir: string; changedAt: number }[] = [];
  for (const name of names) {
    const dir = join(path, name);
    if (await isRun(dir)) found.push({ dir, changedAt: (await stat(dir)).mtimeMs });
  }
  if (found.length === 0) throw new UserError(`Cannot show ${path}: it contains no run`);
  found.sort((a, b) => a.changedAt - b.changedAt);
  return found.slice(-MAX_RUNS).map(({ dir }) => ({ dir, isNamed: false }));
}

function isRun(dir: string): Promise<boolean> {
  return stat(join(dir, 'config.json')).then(
    (found) => found.isFile(),
    () => false,
  );
}
