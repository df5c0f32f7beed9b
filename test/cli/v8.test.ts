import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const built = (file: string) => fileURLToPath(new URL(`../../dist/${file}`, import.meta.url));
const V8 = built('cli/v8.js');
const ENGINE = built('model/engine/simd/node.js');
const MODEL = built('model/lenet.js');

it('frees the memory of dead frames when it is told to', () => {
  const script = `
    import { youngCollector } from ${JSON.stringify(V8)};
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
    import { keepYoungSmall } from ${JSON.stringify(V8)};
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

it('has kernels optimized within a few micro-batches', () => {
  const script = (first: string) => `
    import { optimizeKernelsSoon } from ${JSON.stringify(V8)};
    import { createSimdEngine } from ${JSON.stringify(ENGINE)};
    import { buildModel, LENET5 } from ${JSON.stringify(MODEL)};
    ${first}
    let kernels;
    const { Instance } = WebAssembly;
    WebAssembly.Instance = class extends Instance {
      constructor(...args) {
        super(...args);
        kernels = this.exports;
      }
    };
    const model = buildModel(LENET5);
    const engine = createSimdEngine(model);
    engine.setParams(new Float32Array(model.numParams));
    const gradient = new Float32Array(model.numParams);
    const step = () => engine.gradient(new Uint8Array(8 * 784), new Uint16Array(8), gradient);
    for (let i = 0; i < 3; i++) step();
    // Another thread compiles.
    const deadline = Date.now() + ${first === '' ? 300 : 5_000};
    while (%IsLiftoffFunction(kernels.denseProduct) && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 5));
    console.log(!%IsLiftoffFunction(kernels.denseProduct));
  `;
  const isOptimized = (source: string) =>
    execFileSync(process.execPath, [
      '--allow-natives-syntax',
      '--input-type=module',
      '-e',
      source,
    ]).toString();
  expect(isOptimized(script(''))).toBe('false\n');
  expect(isOptimized(script('optimizeKernelsSoon();'))).toBe('true\n');
});
