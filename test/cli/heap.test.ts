import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const HEAP = fileURLToPath(new URL('../../dist/cli/heap.js', import.meta.url));

it('frees the memory of dead frames when it is told to', () => {
  const script = `
    import { youngCollector } from ${JSON.stringify(HEAP)};
    const frameBytes = () => process.memoryUsage().arrayBuffers;
    const collect = youngCollector();
    for (let i = 0; i < 20; i++) Buffer.allocUnsafeSlow(250_000);
    const before = frameBytes();
    collect();
    // Another thread sweeps.
    const deadline = Date.now() + 5_000;
    while (frameBytes() > before / 4 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 5));
    console.log(JSON.stringify([before, frameBytes()]));
  `;
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script]);
  const [before, after] = JSON.parse(printed.toString()) as number[];
  expect(before).toBeGreaterThan(20 * 250_000 - 1);
  expect(after).toBeLessThan(before / 4);
});

it('keeps the room for young objects small', () => {
  const script = (first: string) => `
    import { getHeapSpaceStatistics } from 'node:v8';
    import { keepYoungSmall } from ${JSON.stringify(HEAP)};
    ${first}
    let kept = [];
    for (let i = 0; i < 2_000_000; i++) {
      kept.push({ i });
      if (kept.length === 200_000) kept = [];
    }
    const { space_size } = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space');
    console.log(space_size);
  `;
  const bytesOf = (source: string) =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', source]).toString());
  const asItComes = bytesOf(script(''));
  expect(bytesOf(script('keepYoungSmall();'))).toBeLessThan(asItComes / 4);
});
