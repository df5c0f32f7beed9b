#!/usr/bin/env node
/** `lockstep`: the commands, and the one place where the process ends. Exit codes: 0 done, 1 failed, 2 bad usage. */
import { Command, CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import { UserError, messageOf } from '../shared/errors.js';
import { coordinatorCommand, trainCommand } from './train.js';
import { benchCommand } from './bench.js';
import { boardCommand } from './board.js';
import { doctorCommand } from './doctor.js';
import { evaluateCommand } from './evaluate.js';
import { predictCommand } from './predict.js';
import { summaryCommand } from './summary.js';
import { workerCommand } from './worker.js';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

const program = new Command('lockstep')
  .description('Distributed data-parallel training: the same bits on any number of workers')
  .version(version)
  .showHelpAfterError('(lockstep --help lists the commands, lockstep COMMAND --help its options)')
  .addCommand(trainCommand())
  .addCommand(coordinatorCommand())
  .addCommand(workerCommand() as unknown as Command)
  .addCommand(evaluateCommand() as unknown as Command)
  .addCommand(predictCommand() as unknown as Command)
  .addCommand(summaryCommand())
  .addCommand(benchCommand() as unknown as Command)
  .addCommand(doctorCommand() as unknown as Command)
  .addCommand(boardCommand() as unknown as Command);
program.commands.forEach((command) => command.copyInheritedSettings(program));
program.exitOverride();
program.commands.forEach((command) => command.exitOverride());

try {
  await program.parseAsync();
  process.exit(0);
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  // A mistake of the user's gets its sentence; anything else is a bug, and a developer wants to see where.
  const isBug = !(error instanceof UserError) && process.env.LOCKSTEP_DEBUG !== undefined;
  process.stderr.write(
    `lockstep: ${isBug && error instanceof Error ? error.stack : messageOf(error)}\n`,
  );
  process.exit(1);
}
