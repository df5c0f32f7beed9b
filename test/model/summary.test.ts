import { describe, expect, test } from 'vitest';
import { buildModel, LENET5 } from '../../src/model/lenet.js';
import { formatSummary, summarize } from '../../src/model/summary.js';

describe('summarize()', () => {
  test('adds up to 61,706 weights and 416,520 multiply–adds for LeNet-5', () => {
    const { rows, numWeights, numMultiplyAdds } = summarize(buildModel(LENET5));
    expect([numWeights, numMultiplyAdds]).toEqual([61_706, 416_520]);
    expect(rows.reduce((sum, row) => sum + row.numWeights, 0)).toBe(61_706);
    expect(rows.reduce((sum, row) => sum + row.numMultiplyAdds, 0)).toBe(416_520);
  });

  test.each([
    { channels: [3, 5, 7], kernelSize: 3, hidden: [] },
    { stride: 2, padding: 0, channels: [4] },
    { hidden: [10, 20, 30], pool: 'max' },
  ] as const)('adds up for %o', (change) => {
    const { rows, numWeights, numMultiplyAdds } = summarize(buildModel({ ...LENET5, ...change }));
    expect(rows.reduce((sum, row) => sum + row.numWeights, 0)).toBe(numWeights);
    expect(rows.reduce((sum, row) => sum + row.numMultiplyAdds, 0)).toBe(numMultiplyAdds);
    for (let i = 1; i < rows.length; i++) {
      // Flattened between the last pooling and the first fully connected layer.
      if (rows[i].input.includes('×')) expect(rows[i].input).toBe(rows[i - 1].output);
    }
  });
});

describe('formatSummary()', () => {
  test('prints the table of the course note', () => {
    expect(formatSummary(buildModel(LENET5))).toMatchInlineSnapshot(`
      "Layer                Description                        Input       Output                  Weights  FLOPs (multiply–adds)
      ───────────────────  ─────────────────────────────────  ──────────  ──────────  ───────────────────  ─────────────────────
      Input                28×28 grey image, padded to 32×32  1×1×32×32   1×1×32×32                     0                      0
      C1: Conv             6 filters 5×5, stride 1            1×1×32×32   1×6×28×28       6·1·5·5+6 = 156                117,600
      S2: Pooling          2×2 average, stride 2              1×6×28×28   1×6×14×14                     0                      0
      C3: Conv             16 filters 5×5, stride 1           1×6×14×14   1×16×10×10  16·6·5·5+16 = 2,416                240,000
      S4: Pooling          2×2 average, stride 2              1×16×10×10  1×16×5×5                      0                      0
      F5: Fully connected  400 → 120                          400         120                      48,120                 48,000
      F6: Fully connected  120 → 84                           120         84                       10,164                 10,080
      Output               84 → 10                            84          10                          850                    840
      ───────────────────  ─────────────────────────────────  ──────────  ──────────  ───────────────────  ─────────────────────
      Total                                                                                        61,706                416,520

      A sigmoid follows every convolution and every fully connected layer but the last.
      The course note states 61,686 weights; its own rows add up to 61,706."
    `);
  });

  test('says what is different in other models', () => {
    const text = formatSummary(
      buildModel({ ...LENET5, padding: 0, hidden: [84], activation: 'relu', pool: 'max' }),
    );
    expect(text).toContain('28×28 grey image  ');
    expect(text).toContain('2×2 maximum, stride 2');
    expect(text).toContain('A relu follows');
    expect(text).not.toContain('course note');
  });
});
