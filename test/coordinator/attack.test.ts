/**
 * Liars, to the end: the coordinator's own code against workers that lie in everything they say. What holds with which
 * `--audit` is what docs/guarantees.md promises.
 */
import { describe, expect, it } from 'vitest';
import { bytesOf } from '../../src/shared/codec.js';
import { runCrew, HONEST, type Answer, type Hand, type Lie } from '../support/crew.js';
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

/** Those that only an audit can find. */
const LIES: Readonly<Record<string, Lie>> = {
  'in every gradient': wrongGradient,
  'in one gradient of ten': sometimes(wrongGradient, 0.1),
  'in one bit of a gradient': inPartials((truth) => ({
    ...truth,
    gradient: truth.gradient.with(0, truth.gradient[0] ^ 1),
  })),
  'in losses': inPartials((truth) => ({ ...truth, lossSum: truth.lossSum / 2 })),
  'in counts': inPartials((truth) => ({ ...truth, numCorrect: truth.numImages })),
  'in losses of evaluations': inEvaluations((truth) => ({
    ...truth,
    lossSums: bytesOf(new Float32Array(truth.range[1] - truth.range[0])),
  })),
  'in predictions': inEvaluations((truth) => ({
    ...truth,
    predictions: bytesOf(training.samples.evaluationSet(truth.set).labels),
  })),
};

/** Those that are found without one, and how the connection ends. */
const BLUNDERS: Readonly<Record<string, { readonly lie: Lie; readonly closeCode: number | null }>> =
  {
    'a class that there is not': {
      lie: inEvaluations((truth) => ({ ...truth, predictions: truth.predictions.with(0, 200) })),
      closeCode: 4400,
    },
    'NaN in the loss of an evaluation': {
      lie: inEvaluations((truth) => ({ ...truth, lossSums: bytesOf(Float32Array.of(NaN)) })),
      closeCode: 4460,
    },
    'NaN in the loss': {
      lie: inPartials((truth) => ({ ...truth, lossSum: NaN })),
      closeCode: 4460,
    },
    'NaN in the gradient': {
      lie: inPartials((truth) => ({ ...truth, gradient: truth.gradient.map(() => 0xff) })),
      closeCode: 4460,
    },
    'a range that is no node': {
      lie: inPartials((truth) => ({ ...truth, range: [1, 3], numImages: 4 })),
      closeCode: 4400,
    },
    'a range that was not asked': {
      lie: inPartials((truth) => [truth, truth]),
      closeCode: 4422,
    },
    'more images than there are': {
      lie: inPartials((truth) => ({ ...truth, numImages: 3 })),
      closeCode: 4400,
    },
    'a step to come': {
      lie: (truth) => ({ ...truth, globalStep: truth.globalStep + 1 }),
      closeCode: 4422,
    },
    'no time at all': {
      lie: (truth) => ({ ...truth, computeMs: 0 }),
      closeCode: null,
    },
    'all the time there is': {
      lie: (truth) => ({
        ...truth,
        computeMs: 86_400_000,
        ...(truth.type === 'partial' ? { startedAt: 1e15 } : {}),
      }),
      closeCode: null,
    },
  };

const liar = (lie: Lie, change: Partial<Hand> = {}): Hand => ({
  ...{ name: 'liar', isExact: true, address: '10.0.0.66', lie },
  ...change,
});

const COMPANIES: Readonly<Record<string, (lie: Lie) => readonly Hand[]>> = {
  'alone at first': (lie) => [liar(lie), { ...HONEST, isLate: true }],
  'among honest ones': (lie) => [HONEST, liar(lie), { ...HONEST, name: 'another' }],
  'in a pair': (lie) => [liar(lie), liar(lie, { name: 'accomplice' }), HONEST],
  approximate: (lie) => [liar(lie, { isExact: false }), HONEST],
};

/** The result of the contract's plain loop. */
const HONEST_RESULT = {
  weightsSha256: training.weightsSha256,
  testAccuracy: last.accuracy,
  testLoss: last.loss,
};

describe('with --audit 1 the result is the honest one', () => {
  const cases = Object.keys(LIES).flatMap((lie) =>
    Object.keys(COMPANIES).map((company) => ({ lie, company })),
  );
  it.each(cases)('against a worker that lies $lie, $company', async ({ lie, company }) => {
    const { result, closeCodes } = await runCrew(COMPANIES[company](LIES[lie]), { audit: 1 });
    expect(result).toMatchObject(HONEST_RESULT);
    // What is within an approximate worker's tolerance is no lie; it does not count either.
    const isLie = company !== 'approximate' || !lie.includes('bit');
    if (isLie) expect(closeCodes('liar')).toContain(4460);
    else expect(closeCodes('liar')).toEqual([]);
  });
});

describe('whatever the audit, the result is the honest one', () => {
  const cases = Object.keys(BLUNDERS).flatMap((blunder) =>
    [0, 0.2, 1].map((audit) => ({ blunder, audit })),
  );
  it.each(cases)('against $blunder, --audit $audit', async ({ blunder, audit }) => {
    const { lie, closeCode } = BLUNDERS[blunder];
    const { result, closeCodes } = await runCrew([liar(lie), HONEST], { audit });
    expect(result).toMatchObject(HONEST_RESULT);
    if (closeCode === null) expect(closeCodes('liar')).toEqual([]);
    else expect(closeCodes('liar')).toContain(closeCode);
  });
});

describe('with --audit 0.2', () => {
  it('a worker that lies again and again is shut out, and the run ends', async () => {
    const { result, closeCodes } = await runCrew([liar(wrongGradient), HONEST], { audit: 0.2 });
    expect(result.outcome).toBe('finished');
    expect(closeCodes('liar')).toContain(4460);
  });

  it('an invented accuracy neither ends the run nor is called its best', async () => {
    const { result, harness } = await runCrew([liar(LIES['in predictions']), HONEST], {
      audit: 1e-9,
      targetAccuracy: 1,
    });
    expect(result).toMatchObject({ ...HONEST_RESULT, outcome: 'finished' });
    expect(harness.eventsOf('evaluation').map(({ accuracy }) => accuracy)).not.toContain(1);
  });
});

describe('without an audit', () => {
  it('whoever gives the right form is believed: the promise needs one', async () => {
    const { result } = await runCrew([liar(wrongGradient), HONEST], { audit: 0 });
    expect(result.weightsSha256).not.toBe(training.weightsSha256);
  });
});
