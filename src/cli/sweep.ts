/**
 * `lockstep sweep`: trains once for each combination of options, or for random ones, one after the other, each in a separate
 * process. A trial is a run in the sweep's directory; finished trials are not repeated.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockDirectory } from '../coordinator/run/run-lock.js';
import { FINAL_STATES, summarizeRun, type RunState } from '../coordinator/run/run-summary.js';
import { messageOf, UsageError, UserError } from '../shared/errors.js';
import { formatNoun, formatPercent } from '../shared/format.js';
import { parseJson } from '../shared/json.js';
import { readInputText } from '../shared/node/input-file.js';
import { fileStorage } from '../shared/node/storage.js';
import { shorten, textOf, variableName } from '../shared/option.js';
import { leftAligned } from '../shared/table.js';
import { optionCommand } from './command.js';
import { quoted } from './resume-command.js';
import { readConfigFile } from './settings.js';
import { exitCodeOf, stopSignal } from './signals.js';
import {
  OF_SWEEP,
  gridTrials,
  parseSpace,
  randomTrials,
  variedKeys,
  type SweepSpace,
  type TrialValues,
} from './sweep-plan.js';

const PROGRAM = fileURLToPath(new URL('./child-program.js', import.meta.url));

/** Of what a sweep is of: as much as the file that says it may have. */
const MAX_SWEEP_BYTES = 2_000_000;

/** A trial and what became of it. */
interface Trial {
  readonly name: string;
  readonly values: TrialValues;
  readonly state: RunState | 'failed' | 'waiting';
  readonly accuracy: number | null;
}

export function sweepCommand() {
  return optionCommand(
    'sweep',
    'train with every combination of options in a file, or with random ones',
    'sweep.json --out sweeps/lr --trials 20',
    async ({ values: { out, trials: numTrials = null, seed, json } }, [file]) => {
      const space = parseSpace(
        parseSweep(readConfigFile(file, `the sweep ${shorten(file)}`), file),
        file,
      );
      const stop = stopSignal();
      const plan = numTrials === null ? gridTrials(space) : randomTrials(space, numTrials, seed);
      await checkSame(out, { space: [...space], seed: numTrials === null ? null : seed });
      // Released when the process ends.
      await lockDirectory(out, 'another sweep');
      const say = (line: string) =>
        void (json ? process.stderr : process.stdout).write(`${line}\n`);
      say(`${formatNoun(plan.length, 'trial')} in ${out}`);
      const trials: Trial[] = [];
      for (const [index, values] of plan.entries()) {
        const name = `trial-${String(index + 1).padStart(4, '0')}`;
        const path = join(out, name);
        const before = await summarizeRun(path);
        const isDone = before !== null && FINAL_STATES.includes(before.state);
        if (before?.state === 'running') {
          throw new UserError(
            `Cannot train ${path}: another process is training it; wait for it, or stop it`,
          );
        }
        const hasEnded = isDone || (!stop.aborted && (await train(out, name, values, stop)));
        const after = isDone ? before : await summarizeRun(path);
        const isOver = after !== null && FINAL_STATES.includes(after.state);
        const state = isOver || stop.aborted ? (after?.state ?? 'waiting') : 'failed';
        trials.push({ name, values, state, accuracy: after?.accuracy ?? null });
        if (hasEnded || !stop.aborted) {
          say(
            `${index + 1}/${plan.length}  ${describe(space, values)}  ${outcomeOf(trials[index])}`,
          );
        }
      }
      const ranked = trials.toSorted((a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1));
      if (json) console.log(JSON.stringify(ranked, null, 2));
      else console.log(['', ...tableOf(space, ranked), ''].join('\n'));
      if (stop.aborted) {
        const again = process.argv.slice(2).map(quoted).join(' ');
        say(`To go on: npx lockstep ${again}`);
        process.exitCode = exitCodeOf(stop.reason);
        return;
      }
      say(`To see them: npx lockstep board ${quoted(out)}`);
      if (trials.some(({ state }) => state === 'failed')) process.exitCode = 1;
    },
  ).argument('<file>', 'JSON file: options with a value, a list of values, or {"min", "max"}');
}

function parseSweep(text: string, file: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    throw new UsageError(`Cannot read the sweep ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Keeps what the sweep is of in its folder.
 *
 * @throws {UserError} if the folder has another sweep
 */
async function checkSame(out: string, sweep: unknown): Promise<void> {
  const path = join(out, 'sweep.json');
  const text = `${JSON.stringify(sweep, null, 2)}\n`;
  const before = await readInputText(path, MAX_SWEEP_BYTES).catch(() => null);
  if (before === text) return;
  if (before !== null) {
    throw new UserError(`Cannot sweep in ${out}: it contains another sweep; choose another --out`);
  }
  await write(path, text);
}

/** @throws {UserError} */
async function write(path: string, text: string): Promise<void> {
  try {
    await fileStorage.writeDurably(path, Buffer.from(text));
  } catch (error) {
    throw new UserError(`Cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Trains in a process of its own, or goes on; what it warns of is shown. @returns whether it ended by itself */
async function train(
  out: string,
  name: string,
  values: TrialValues,
  stop: AbortSignal,
): Promise<boolean> {
  const config = join(out, `${name}.json`);
  await write(config, `${JSON.stringify(values, null, 2)}\n`);
  const args = ['train', '--config', config, '--out', join(out, name), '--resume'];
  // What the environment says holds for all trials, but for what the sweep says: a variable would go before the file.
  const own = ['config', 'json', ...OF_SWEEP, ...Object.keys(values)].map((key) => [
    variableName(key),
    undefined,
  ]);
  const env = { ...process.env, ...(Object.fromEntries(own) as NodeJS.ProcessEnv) };
  const child = spawn(
    process.execPath,
    [...process.execArgv, PROGRAM, ...args, '--port', '0', '--quiet'],
    {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env,
    },
  );
  const end = () => child.kill('SIGTERM');
  stop.addEventListener('abort', end, { once: true });
  const leave = () => child.kill('SIGTERM');
  process.once('exit', leave);
  try {
    return await new Promise<boolean>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => resolve(code === 0));
    });
  } finally {
    stop.removeEventListener('abort', end);
    process.off('exit', leave);
  }
}

function describe(space: SweepSpace, values: TrialValues): string {
  return variedKeys(space)
    .map((key) => `${key} ${textOf(values[key])}`)
    .join('  ');
}

function outcomeOf({ state, accuracy }: Trial): string {
  return accuracy === null ? state : `${state}  ${formatPercent(accuracy)}`;
}

function tableOf(space: SweepSpace, trials: readonly Trial[]): string[] {
  const keys = variedKeys(space);
  return leftAligned([
    ['trial', 'accuracy', 'state', ...keys],
    ...trials.map(({ name, state, accuracy, values }) => [
      ...[name, accuracy === null ? '–' : formatPercent(accuracy), state],
      ...keys.map((key) => textOf(values[key])),
    ]),
  ]);
}
