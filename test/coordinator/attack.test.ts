/**
 * Whole runs with lying workers: the coordinator's own code against every kind of lie, in every company, with every kind of
 * `--audit`. Each ends as docs/guarantees.md promises.
 */
import { describe, expect, it } from 'vitest';
import { bytesOf } from '../../src/shared/codec.js';
import {
  runCrew,
  HONEST,
  type Answer,
  type CrewRun,
  type Hand,
  type Lie,
} from '../support/crew.js';
import { allTrainings, evaluationKey } from '../support/simulator/training.js';

const training = allTrainings()[0];
const last = training.evaluations.get(evaluationKey('test', training.numSteps))!;

const inPartials =
  (lie: (truth: Extract<Answer, { type: 'partial' }>) => ReturnType<Lie>): Lie =>
  (truth) =>
    truth.type === 'partial' ? lie(truth) : truth;
const inEvaluations =
  (lie: (truth: Extract<Answer, { type: 'evaluation' }>) => ReturnType<Lie>): Lie =>
  (truth) =>
    truth.type === 'evaluation' ? lie(truth) : truth;
const sometimes =
  (lie: Lie, share: number): Lie =>
  (truth, random) =>
    random.float() < share ? lie(truth, random) : truth;

const wrongGradient = inPartials((truth) => ({
  ...truth,
  gradient: truth.gradient.map((byte, i) => (i % 4 === 3 ? byte ^ 0x80 : byte)),
}));

/**
 * How a lie is handled:
 * - `form`: detected at once; ends the connection and never counts
 * - `value`: only an audit can detect it; without one it counts
 * - `harmless`: no result depends on it
 */
type Kind =
  | { readonly kind: 'form'; readonly closeCode: number; readonly isExactOnly?: boolean }
  | { readonly kind: 'value'; readonly isWithinTolerance?: boolean }
  | { readonly kind: 'harmless' };

const LIES: Readonly<Record<string, Kind & { readonly lie: Lie; readonly hello?: Hand['hello'] }>> =
  {
    'in every gradient': { kind: 'value', lie: wrongGradient },
    'in one gradient of ten': { kind: 'value', lie: sometimes(wrongGradient, 0.1) },
    'in one gradient of a hundred': { kind: 'value', lie: sometimes(wrongGradient, 0.01) },
    'in one bit of a gradient': {
      kind: 'value',
      // Within an approximate worker's tolerance it is not a lie; with --audit 1 it does not count either.
      isWithinTolerance: true,
      lie: inPartials((truth) => ({
        ...truth,
        gradient: truth.gradient.with(0, truth.gradient[0] ^ 1),
      })),
    },
    'in losses': {
      kind: 'value',
      lie: inPartials((truth) => ({ ...truth, lossSum: truth.lossSum / 2 })),
    },
    'in counts': {
      kind: 'value',
      lie: inPartials((truth) => ({
        ...truth,
        numCorrect: truth.numCorrect === 0 ? truth.numImages : 0,
      })),
    },
    'in losses of evaluations': {
      kind: 'value',
      lie: inEvaluations((truth) => ({
        ...truth,
        lossSums: bytesOf(new Float32Array(truth.range[1] - truth.range[0])),
      })),
    },
    'in predictions': {
      kind: 'value',
      lie: inEvaluations((truth) => ({
        ...truth,
        predictions: bytesOf(training.samples.evaluationSet(truth.set).labels),
      })),
    },
    'with a nonexistent class': {
      ...{ kind: 'form', closeCode: 4400 },
      lie: inEvaluations((truth) => ({ ...truth, predictions: truth.predictions.with(0, 200) })),
    },
    'with NaN in the loss of an evaluation': {
      ...{ kind: 'form', closeCode: 4460 },
      lie: inEvaluations((truth) => ({ ...truth, lossSums: bytesOf(Float32Array.of(NaN)) })),
    },
    'with NaN in the loss': {
      ...{ kind: 'form', closeCode: 4460 },
      lie: inPartials((truth) => ({ ...truth, lossSum: NaN })),
    },
    'with NaN in the gradient': {
      ...{ kind: 'form', closeCode: 4460 },
      lie: inPartials((truth) => ({ ...truth, gradient: truth.gradient.map(() => 0xff) })),
    },
    'with a range that is not a node': {
      ...{ kind: 'form', closeCode: 4400, isExactOnly: true },
      lie: inPartials((truth) => ({ ...truth, range: [1, 3], numImages: 4 })),
    },
    'with a range that was not asked for': {
      ...{ kind: 'form', closeCode: 4422 },
      lie: inPartials((truth) => [truth, truth]),
    },
    'with more images than there are': {
      ...{ kind: 'form', closeCode: 4400 },
      lie: inPartials((truth) => ({ ...truth, numImages: 3 })),
    },
    'with a future step': {
      ...{ kind: 'form', closeCode: 4422 },
      lie: (truth) => ({ ...truth, globalStep: truth.globalStep + 1 }),
    },
    'in times: zero': {
      kind: 'harmless',
      lie: (truth) => ({ ...truth, computeMs: 0 }),
    },
    'in times: enormous': {
      kind: 'harmless',
      lie: (truth) => ({
        ...truth,
        computeMs: 86_400_000,
        ...(truth.type === 'partial' ? { startedAt: 1e15 } : {}),
      }),
    },
    'in its id': {
      kind: 'harmless',
      hello: { workerId: 'w1', secret: 'ab'.repeat(32) },
      lie: (truth) => truth,
    },
  };

/** Counts the answers that differ from the truth. */
function counted(lie: Lie, told: { count: number }): Lie {
  return (truth, random) => {
    const said = lie(truth, random);
    if (said !== truth) told.count++;
    return said;
  };
}

const COMPANIES: Readonly<Record<string, (liar: Hand) => readonly Hand[]>> = {
  'alone at first': (liar) => [liar, { ...HONEST, isLate: true }],
  'among honest ones': (liar) => [HONEST, liar, { ...HONEST, name: 'another' }],
  'in a pair': (liar) => [liar, { ...liar, name: 'accomplice' }, HONEST],
  approximate: (liar) => [{ ...liar, isExact: false }, HONEST],
};

/** With --audit 0.2, at least one of this many lies is detected in 99 of 100 runs. */
const SURELY_FOUND = 20;

/** All figures of a run: its weights, its last evaluation, and the loss and accuracy of each step and evaluation. */
function figuresOf({ result, harness }: CrewRun) {
  const { weightsSha256, testAccuracy, testLoss } = result;
  const steps = harness.eventsOf('step').map(({ loss, accuracy }) => ({ loss, accuracy }));
  const evaluations = harness
    .eventsOf('evaluation')
    .map(({ loss, accuracy }) => ({ loss, accuracy }));
  return { weightsSha256, testAccuracy, testLoss, steps, evaluations };
}

/** The figures of the plain training loop. */
const HONEST_FIGURES = {
  weightsSha256: training.weightsSha256,
  testAccuracy: last.accuracy,
  testLoss: last.loss,
  steps: training.steps,
  evaluations: [...training.evaluations.values()],
};

describe.each([0, 0.2, 1])('with --audit %d', (audit) => {
  const cases = Object.keys(LIES).flatMap((what) =>
    Object.keys(COMPANIES).map((company) => ({ what, company })),
  );
  it.each(cases)('a worker that lies $what, $company', async ({ what, company }) => {
    const { lie, hello, ...met } = LIES[what];
    const told = { count: 0 };
    const liar: Hand = {
      ...{ name: 'liar', isExact: true, address: '10.0.0.66', lie: counted(lie, told) },
      ...(hello && { hello }),
    };
    const run = await runCrew(COMPANIES[company](liar), { audit });
    const codes = run.closeCodes('liar');
    const isApproximate = company === 'approximate';
    expect(run.result.outcome).toBe('finished');
    expect(run.closeCodes('honest')).toEqual([]);

    // The range of an approximate worker need not be a node, so there the lie is in the value.
    const isSeen = met.kind === 'form' && !(met.isExactOnly && isApproximate);
    if (isSeen || met.kind === 'harmless' || audit === 1 || told.count === 0) {
      expect(figuresOf(run)).toEqual(HONEST_FIGURES);
    } else if (audit === 0 && company === 'alone at first') {
      // In company, another worker may have been faster.
      expect(figuresOf(run)).not.toEqual(HONEST_FIGURES);
    }

    if (isSeen) expect(codes).toContain(met.closeCode);
    // At least one of the ranges it invents was never assigned.
    else if (met.kind === 'form') expect(codes).toContain(4422);
    else if (met.kind === 'harmless' || audit === 0) expect(codes).toEqual([]);
    else if (isApproximate && met.isWithinTolerance) expect(codes).toEqual([]);
    else if (told.count > 0 && (audit === 1 || told.count >= SURELY_FOUND)) {
      expect(codes).toContain(4460);
    }
  });
});

describe('with a minimal audit', () => {
  it('an invented accuracy neither ends the run nor is called its best', async () => {
    const { lie } = LIES['in predictions'];
    const liar: Hand = { name: 'liar', isExact: true, address: '10.0.0.66', lie };
    const run = await runCrew([liar, HONEST], { audit: 1e-9, targetAccuracy: 1 });
    expect(figuresOf(run)).toEqual(HONEST_FIGURES);
    expect(run.result.outcome).toBe('finished');
    const accuracies = run.harness.eventsOf('evaluation').map(({ accuracy }) => accuracy);
    expect(accuracies).not.toContain(1);
  });
});
