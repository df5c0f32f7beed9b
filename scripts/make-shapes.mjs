/**
 * Writes a set of coloured shapes as a folder of pictures: 12 classes (4 shapes in 3 colours), 32×32 pixels, RGB. The
 * same files on every machine.
 *
 *   node scripts/make-shapes.mjs DIR [IMAGES_PER_CLASS_TO_TRAIN] [IMAGES_PER_CLASS_TO_TEST]
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const SIZE = 32;
const COLORS = { blue: [50, 80, 230], green: [40, 180, 70], red: [225, 50, 50] };
/** Whether (x, y), of a figure of radius 1 about the origin, is within. */
const SHAPES = {
  circle: (x, y) => x * x + y * y <= 1,
  cross: (x, y) =>
    Math.max(Math.abs(x), Math.abs(y)) <= 1 && Math.min(Math.abs(x), Math.abs(y)) <= 0.3,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85,
  triangle: (x, y) => y <= 0.8 && y >= -1 && Math.abs(x) <= (y + 1) / 1.8,
};

/** Uniform in [0, 1): mulberry32. */
function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function draw(isWithin, color, random) {
  const between = (from, to) => from + (to - from) * random();
  const radius = between(6, 12);
  const [centreX, centreY] = [between(radius, SIZE - radius), between(radius, SIZE - radius)];
  const ground = [between(0, 255), between(0, 255), between(0, 255)].map((value) => 0.5 * value);
  const ink = color.map((value) => value + between(-25, 25));
  const data = new Uint8Array(3 * SIZE * SIZE);
  for (let row = 0; row < SIZE; row++) {
    for (let column = 0; column < SIZE; column++) {
      const x = (column + 0.5 - centreX) / radius;
      const y = (row + 0.5 - centreY) / radius;
      const pixel = isWithin(x, y) ? ink : ground;
      pixel.forEach((value, channel) => {
        const noisy = Math.round(value + between(-20, 20));
        data[3 * (row * SIZE + column) + channel] = Math.max(0, Math.min(255, noisy));
      });
    }
  }
  return encode({ width: SIZE, height: SIZE, channels: 3, depth: 8, data });
}

const [dir, ...counts] = process.argv.slice(2);
const [numTrain = 500, numTest = 100] = counts.map(Number);
if (
  dir === undefined ||
  ![numTrain, numTest].every((count) => Number.isInteger(count) && count > 0)
) {
  console.error('Usage: node scripts/make-shapes.mjs DIR [TRAIN_PER_CLASS] [TEST_PER_CLASS]');
  process.exit(2);
}
const random = createRandom(14);
for (const [split, count] of [
  ['train', numTrain],
  ['test', numTest],
]) {
  for (const [colorName, color] of Object.entries(COLORS)) {
    for (const [shapeName, isWithin] of Object.entries(SHAPES)) {
      const folder = join(dir, split, `${colorName}-${shapeName}`);
      await mkdir(folder, { recursive: true });
      for (let index = 0; index < count; index++) {
        const file = join(folder, `${String(index).padStart(5, '0')}.png`);
        await writeFile(file, draw(isWithin, color, random));
      }
    }
  }
}
console.log(`${12 * numTrain} training and ${12 * numTest} test pictures in ${dir}`);
