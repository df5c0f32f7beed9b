/** Which evaluation is the best of a run. */
import type { EvaluationRow } from '../update.js';

/**
 * The evaluation to show of the state that the run keeps as its best: the set that decides is the validation set, if there
 * is one (docs/training.md); what is shown of it is the test set's, if that was evaluated too.
 */
export function bestOf(evaluations: readonly EvaluationRow[]): EvaluationRow | undefined {
  const tests = new Map<number, EvaluationRow>();
  for (const row of evaluations) if (row.set === 'test') tests.set(row.globalStep, row);
  const validations = evaluations.filter(({ set }) => set === 'validation');
  const complete = validations.filter(({ globalStep }) => tests.has(globalStep));
  const deciding = [complete, [...tests.values()], validations].find((rows) => rows.length > 0);
  const best = deciding?.reduce((top, row) => (top.accuracy >= row.accuracy ? top : row));
  return best && (tests.get(best.globalStep) ?? best);
}
