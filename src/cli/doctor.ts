/** `lockstep doctor`: which engines this machine has, which one it would pick, and why not the others. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { diagnose, formatDiagnosis, type Diagnosis } from '../model/engine/doctor.js';
import { commandLine } from '../model/engine/tfjs/install.js';
import { UserError } from '../shared/errors.js';
import { optionCommand } from './command.js';

/** The checkout, where package.json and node_modules are. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export function doctorCommand() {
  return optionCommand(
    'doctor',
    'show which engines this machine has, measured, and what the others lack',
    '--json',
    async ({ values: { device = null, json, fix } }) => {
      let diagnosis = await diagnose(device);
      if (fix && install(diagnosis)) diagnosis = await diagnose(device);
      console.log(json ? JSON.stringify(diagnosis, null, 2) : formatDiagnosis(diagnosis));
    },
  );
}

/**
 * Runs the cures that are commands of npm's.
 *
 * @returns false if there are none
 * @throws {UserError} if one fails
 */
function install({ engines }: Diagnosis): boolean {
  const commands = engines.flatMap(({ fix }) => fix);
  if (commands.length === 0) {
    console.error('Nothing that npm could install is missing');
    return false;
  }
  if (!existsSync(`${ROOT}package-lock.json`)) {
    throw new UserError(
      `Cannot fix: ${ROOT} is no checkout but an installed package; run in your own project: ` +
        commandLine(commands),
    );
  }
  for (const command of commands) {
    const [program, ...args] = command;
    console.error(`$ ${commandLine([command])}`);
    // npm's messages are not the command's output, which may be JSON. On Windows npm is a batch file.
    const { status, error } = spawnSync(program, args, {
      cwd: ROOT,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32',
    });
    if (status === 0) continue;
    const why = error?.message ?? `it ended with code ${status}, see above`;
    throw new UserError(`Cannot fix: ${commandLine([command])}: ${why}`);
  }
  return true;
}
