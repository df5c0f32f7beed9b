/** Which evaluation is the best of a run. */
import type { EvaluationRow } from '../update.js';

/**
 * The evaluation to show of the state that the run keeps as its best: the set that decides is the validation set, if there
 * is one (docs/training.md); what is shown of it is the test set's, if that was evaluated too.
 */
export function bestOf(evaluations: readonly EvaluationRow[]): EvaluationRow | undefined {
  const validations = evaluations.filter(({ set }) => set === 'validation');
  const deciding = validations.length > 0 ? validations : evaluations;
  const best = deciding.reduce<EvaluationRow | undefined>(
    (top, row) => (top && top.accuracy >= row.accuracy ? top : row),
    undefined,
  );
  const isOfBest = ({ set, globalStep }: EvaluationRow) =>
    set === 'test' && globalStep === best?.globalStep;
  return evaluations.find(isOfBest) ?? best;
}
