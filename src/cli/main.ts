#!/usr/bin/env node
/**
 * `lockstep`: the commands, and the only place where the process exits. Exit codes: 0 success, 1 failure, 2 usage error,
 * and 128 + the signal's number for a run that was stopped early.
 */
import { endianness } from 'node:os';
import { Command, CommanderError } from 'commander';
import { UserError, messageOf } from '../shared/errors.js';
import { version } from '../shared/node/version.js';
import { catchTheRest, endWith } from './last-resort.js';
import { whyNotHere } from './machine.js';

/** Commands are loaded on demand, or all of them for the help: a worker needs no web server. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  train: async () => (await import('./train.js')).trainCommand(),
  coordinator: async () => (await import('./train.js')).coordinatorCommand(),
  worker: async () => (await import('./worker.js')).workerCommand(),
  relay: async () => (await import('./relay.js')).relayCommand(),
  launch: async () => (await import('./launch.js')).launchCommand(),
  data: async () => (await import('./data.js')).dataCommand(),
  ctl: async () => (await import('./ctl.js')).ctlCommand(),
  evaluate: async () => (await import('./evaluate.js')).evaluateCommand(),
  predict: async () => (await import('./predict.js')).predictCommand(),
  export: async () => (await import('./export.js')).exportCommand(),
  summary: async () => (await import('./summary.js')).summaryCommand(),
  bench: async () => (await import('./bench.js')).benchCommand(),
  doctor: async () => (await import('./doctor.js')).doctorCommand(),
  sweep: async () => (await import('./sweep.js')).sweepCommand(),
  runs: async () => (await import('./runs.js')).runsCommand(),
  board: async () => (await import('./board.js')).boardCommand(),
};

/** For these the console only has the log; their results are elsewhere. */
const LOGGING = ['train', 'coordinator', 'worker', 'relay', 'launch'];

const lost: Error[] = [];
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader may stop early, as `head` does.
  if (error.code !== 'EPIPE') lost.push(error);
});
catchTheRest();
try {
  const obstacle = whyNotHere(endianness());
  if (obstacle !== null) throw new UserError(obstacle);
  const program = new Command('lockstep')
    .description('Distributed data-parallel training: the same bits on any number of workers')
    .version(version)
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'lockstep: ')),
    });
  const asked = process.argv[2] ?? '';
  const names = Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS);
  for (const name of names) program.addCommand(await COMMANDS[name]());
  for (const command of [program, ...program.commands]) {
    if (command !== program) command.copyInheritedSettings(program);
    const line = command === program ? 'lockstep' : `lockstep ${command.name()}`;
    command.showHelpAfterError(`See ${line} --help`).exitOverride();
  }
  await program.parseAsync();
  await new Promise((resolve) => process.stdout.write('', resolve));
  if (lost.length > 0 && !LOGGING.includes(asked)) {
    throw new UserError(`Cannot write the output: ${messageOf(lost[0])}`, {
      cause: lost[0],
    });
  }
  process.exit();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  endWith(error);
}
