/**
 * `lockstep doctor`: shows which engines this machine has, which one it would choose, and why not the others; with the URL of
 * a coordinator, whether the machine can join it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { diagnose, formatDiagnosis, type Diagnosis } from '../model/engine/doctor.js';
import { commandLine, type Command } from '../model/engine/tfjs/install.js';
import { UsageError, UserError } from '../shared/errors.js';
import { parseJoinLine } from '../shared/join-line.js';
import { optionCommand } from './command.js';
import { checkLink, formatCheck, type LinkCheck } from './link-doctor.js';
import { readText, readToken } from './token.js';

/** The checkout, where package.json and node_modules are. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export function doctorCommand() {
  return optionCommand(
    'doctor',
    'show and measure the engines of this machine, and what the others lack; with a URL, check the connection to a coordinator',
    'wss://10.0.0.5:7700#TOKEN.PIN',
    async ({ values: { device = null, json, fix, token, tokenFile } }, args) => {
      const argument = args.at(0);
      if (argument === undefined) {
        let diagnosis = await diagnose(device);
        if (fix && install(diagnosis)) diagnosis = await diagnose(device);
        console.log(json ? JSON.stringify(diagnosis, null, 2) : formatDiagnosis(diagnosis));
        return;
      }
      if (fix) throw new UsageError('--fix is for engines: give it without a URL');
      const line = parseJoinLine(
        argument.startsWith('@') ? readText(argument.slice(1), 'join line') : argument,
      );
      const checks: LinkCheck[] = [];
      const isOk = await checkLink(
        { ...line, token: line.token ?? readToken(token, tokenFile) },
        device,
        (check) => {
          checks.push(check);
          if (!json) console.log(formatCheck(check));
        },
      );
      if (json) console.log(JSON.stringify({ isOk, checks }, null, 2));
      if (!isOk) process.exitCode = 1;
    },
  ).argument(
    '[url]',
    'URL of a coordinator, as for `lockstep worker`; @FILE to read it from a file',
  );
}

/**
 * Runs the cures that are commands of npm's.
 *
 * @returns false if there are none
 * @throws {UserError} if one fails
 */
function install({ engines }: Diagnosis): boolean {
  const fixes = engines.flatMap(({ fix }) => fix);
  // What installs everything anew would undo the others.
  const installsAll = ([, subcommand]: Command) => subcommand === 'ci';
  const commands = [
    ...fixes.filter(installsAll),
    ...fixes.filter((command) => !installsAll(command)),
  ];
  if (commands.length === 0) {
    console.error('npm has nothing to install');
    return false;
  }
  if (!existsSync(`${ROOT}package-lock.json`)) {
    throw new UserError(
      `Cannot fix: ${ROOT} is an installed package, not a checkout; run this in your own project: ` +
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
