/** `lockstep runs`: lists the runs in a directory, and removes those no longer needed. */
import { createInterface } from 'node:readline/promises';
import {
  listRuns,
  runsToPrune,
  type PruneRules,
  type RunSummary,
} from '../coordinator/run/run-summary.js';
import { removeRun } from '../coordinator/run/run-directory.js';
import { UsageError, UserError } from '../shared/errors.js';
import { formatBytes, formatNoun, formatPercent } from '../shared/format.js';
import { printable } from '../shared/printable.js';
import { leftAligned } from '../shared/table.js';
import { optionCommand } from './command.js';
import { warn } from './warn.js';

const DEFAULT_DIR = 'runs';

export function runsCommand() {
  return optionCommand(
    'runs',
    'list the runs in a directory, or remove those no longer needed',
    'runs --prune --keep-best 3 --keep-last 5',
    async ({ values }, [dir = DEFAULT_DIR]) => {
      const { json, prune, yes, keepBest = null, keepLast = null, unfinished } = values;
      const rules = { keepBest, keepLast, unfinished };
      checkRules(prune, rules);
      const runs = await listRuns(dir);
      const shown = prune ? runsToPrune(runs, rules) : runs;
      if (json) console.log(JSON.stringify(shown.map(plain), null, 2));
      else console.log(linesOf(dir, shown, prune));
      if (!prune || shown.length === 0) return;
      if (!yes && !(await isConfirmed(shown))) {
        if (!json) console.log('Nothing was removed; give --yes to remove them');
        return;
      }
      let numFailed = 0;
      for (const { path } of shown) {
        try {
          await removeRun(path);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          numFailed++;
          warn(error.message);
        }
      }
      if (!json) console.log(`Removed ${formatNoun(shown.length - numFailed, 'run')}`);
      if (numFailed > 0) process.exitCode = 1;
    },
  ).argument('[dir]', `directory of runs (default: ${DEFAULT_DIR})`);
}

function checkRules(prune: boolean, { keepBest, keepLast, unfinished }: PruneRules): void {
  const hasRule = keepBest !== null || keepLast !== null || unfinished;
  if (prune && !hasRule) {
    throw new UsageError(
      'Cannot prune: which runs? Give --keep-best N, --keep-last N or --unfinished',
    );
  }
  if (!prune && hasRule) {
    throw new UsageError('Cannot use --keep-best, --keep-last or --unfinished without --prune');
  }
}

/** Where nobody can be asked, nobody agrees. */
async function isConfirmed(runs: readonly RunSummary[]): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  const gone = new Promise<string>((resolve) => prompt.once('close', () => resolve('')));
  const question = `Remove ${formatNoun(runs.length, 'run')}? (y/N) `;
  const answer = await Promise.race([prompt.question(question), gone]);
  prompt.close();
  return /^y(es)?$/i.test(answer.trim());
}

function plain({ config, changedAt, ...rest }: RunSummary) {
  const { dataset = null, epochs: totalEpochs = null, seed = null } = config ?? {};
  const hyperparameters = config?.hyperparameters ?? null;
  return {
    ...rest,
    ...{ dataset, totalEpochs, seed, hyperparameters },
    changedAt: new Date(changedAt).toISOString(),
  };
}

function linesOf(dir: string, runs: readonly RunSummary[], isToGo: boolean): string {
  const total = formatBytes(runs.reduce((sum, { bytes }) => sum + bytes, 0));
  if (runs.length === 0) return isToGo ? 'Nothing to remove' : `No runs in ${dir}`;
  const table = leftAligned([
    ['run', 'state', 'model', 'data', 'accuracy', 'epochs', 'size', 'changed'],
    ...runs.map(({ name, state, config, accuracy, epochs, bytes, changedAt }) => [
      printable(name),
      state,
      config === null ? '' : modelOf(config.hyperparameters),
      config === null ? '' : printable(config.dataset),
      accuracy === null ? '–' : formatPercent(accuracy),
      `${epochs}/${config?.epochs ?? '?'}`,
      formatBytes(bytes),
      localTime(changedAt),
    ]),
  ]);
  const verb = isToGo ? ' to be removed' : '';
  return [...table, `${formatNoun(runs.length, 'run')}${verb}, ${total}`].join('\n');
}

/** `6,16 120,84 sigmoid avg` */
function modelOf({
  channels,
  hidden,
  activation,
  pool,
}: NonNullable<RunSummary['config']>['hyperparameters']): string {
  return [channels.join(','), hidden.join(','), activation, pool].filter(Boolean).join(' ');
}

/** 2026-11-24 23:05 */
function localTime(timeMs: number): string {
  const local = new Date(timeMs - 60_000 * new Date(timeMs).getTimezoneOffset());
  return local.toISOString().slice(0, 16).replace('T', ' ');
}
