/** Augmentation: what each way does to an image, that strength 0 does nothing, and that no size of image breaks it. */
import { describe, expect, it } from 'vitest';
import { Augmenter } from '../../../src/model/data/augment.js';
import { buildModel, imageBytes, LENET5, type InputShape } from '../../../src/model/lenet.js';
import { NO_REGULARIZATION, Regularizer } from '../../../src/model/regularizer.js';
import { parseAugmentation } from '../../../src/shared/augmentation.js';
import { createRandom } from '../../../src/shared/random.js';

const SHAPES: readonly InputShape[] = [
  { channels: 1, height: 28, width: 28 },
  { channels: 3, height: 9, width: 14 },
  { channels: 4, height: 5, width: 3 },
  { channels: 2, height: 1, width: 7 },
  { channels: 1, height: 1, width: 1 },
];

function randomImage(shape: InputShape, seed = 1): Uint8Array {
  const random = createRandom(seed, 'image');
  return Uint8Array.from({ length: imageBytes(shape) }, () => random.below(256));
}

function augmented(shape: InputShape, words: string, image: Uint8Array, draw = 0): Uint8Array {
  const changed = image.slice();
  const augmentation = parseAugmentation(words === '' ? [] : words.split(','))!;
  new Augmenter(shape, augmentation).augment(changed, createRandom(3, 'draw', draw));
  return changed;
}

/** All that as many draws make of an image. */
function draws(shape: InputShape, words: string, image: Uint8Array, numDraws: number) {
  return Array.from({ length: numDraws }, (_, draw) => augmented(shape, words, image, draw));
}

const key = (image: Uint8Array) => image.join();

describe.each(SHAPES)('$channels×$height×$width', (shape) => {
  const { channels, height, width } = shape;
  const image = randomImage(shape);
  const at = (of: Uint8Array, c: number, y: number, x: number) =>
    y < 0 || y >= height || x < 0 || x >= width ? 0 : of[(c * height + y) * width + x];
  const mapped = (place: (y: number, x: number) => [number, number]) =>
    Uint8Array.from({ length: image.length }, (_, i) => {
      const [c, y, x] = [Math.floor(i / height / width), Math.floor(i / width) % height, i % width];
      return at(image, c, ...place(y, x));
    });

  it.each(['', 'shift=0', 'rotate=0,scale=0', 'flip=0', 'noise=0,cutout=0'])(
    'is left alone by "%s"',
    (words) => {
      expect(augmented(shape, words, image)).toEqual(image);
    },
  );

  it('is left alone by a turn and a scale too small to matter', () => {
    expect(augmented(shape, 'rotate=0.000001,scale=0.000001', image)).toEqual(image);
  });

  it('is shifted by whole pixels, each way as often, and zeros come in', () => {
    const places = [-2, -1, 0, 1, 2].flatMap((down) =>
      [-2, -1, 0, 1, 2].map((right) => key(mapped((y, x) => [y - down, x - right]))),
    );
    const found = new Set(draws(shape, 'shift', image, 400).map(key));
    expect(found).toEqual(new Set(places));
  });

  it('is mirrored half of the time', () => {
    const mirror = key(mapped((y, x) => [y, width - 1 - x]));
    const found = draws(shape, 'flip', image, 400).map(key);
    expect(new Set(found)).toEqual(new Set([key(image), mirror]));
    if (width === 1) return;
    const share = found.filter((other) => other === mirror).length / found.length;
    expect(share).toBeGreaterThan(0.4);
    expect(share).toBeLessThan(0.6);
    expect(new Set(draws(shape, 'flip=1', image, 20).map(key))).toEqual(new Set([mirror]));
  });

  it('gets noise of the given deviation', () => {
    const grey = new Uint8Array(channels * height * width).fill(128);
    const values = draws(shape, 'noise=10', grey, 2000).flatMap((noisy) => [...noisy].slice(0, 50));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean - 128)).toBeLessThan(0.7);
    expect(Math.abs(Math.sqrt(variance) - 10)).toBeLessThan(0.7);
  });

  it('stays within a byte whatever the noise', () => {
    for (const value of [0, 255]) {
      const flat = new Uint8Array(image.length).fill(value);
      const wanted = draws(shape, 'noise=128', flat, 20).flatMap((noisy) => [...noisy]);
      expect(wanted.some((noisy) => noisy === value)).toBe(true);
    }
  });

  it('loses one square, in all channels', () => {
    const white = new Uint8Array(image.length).fill(255);
    for (const cut of draws(shape, 'cutout=4', white, 50)) {
      const black = [...cut.keys()].filter((i) => cut[i] === 0);
      expect(black.length % channels).toBe(0);
      expect(black.length).toBeGreaterThan(0);
      expect(black.length).toBeLessThanOrEqual(16 * channels);
      const plane = black.filter((i) => i < height * width);
      const rows = new Set(plane.map((i) => Math.floor(i / width)));
      const columns = new Set(plane.map((i) => i % width));
      expect(plane).toHaveLength(rows.size * columns.size);
    }
    expect(
      augmented(shape, 'cutout=1024', white, 1).every((value) => value === 0 || value === 255),
    ).toBe(true);
  });

  it('takes the largest of everything', () => {
    const words = 'shift=512,rotate=180,scale=0.5,flip=1,noise=128,cutout=1024';
    for (const changed of draws(shape, words, image, 50))
      expect(changed).toHaveLength(image.length);
  });
});

it('turns by exact quarters and halves to the pixel', () => {
  const shape = { channels: 1, height: 5, width: 5 };
  const image = randomImage(shape);
  const wanted = Uint8Array.from({ length: 25 }, (_, i) => image[24 - i]);
  // A generator whose numbers are all but 1: the largest angle.
  const largest = { ...createRandom(1), float: () => 1 };
  const turned = image.slice();
  new Augmenter(shape, parseAugmentation(['rotate=180'])!).augment(turned, largest);
  expect(turned).toEqual(wanted);
  const quarter = image.slice();
  new Augmenter(shape, parseAugmentation(['rotate=90'])!).augment(quarter, largest);
  const clockwise = Uint8Array.from(
    { length: 25 },
    (_, i) => image[5 * (4 - (i % 5)) + Math.floor(i / 5)],
  );
  expect(quarter).toEqual(clockwise);
});

it('interpolates between pixels, and keeps what is in the middle there', () => {
  const shape = { channels: 1, height: 33, width: 33 };
  const image = new Uint8Array(33 * 33);
  for (let y = 8; y < 25; y++) image.fill(200, 33 * y + 8, 33 * y + 25);
  const sum = (of: Uint8Array) => of.reduce((total, value) => total + value, 0);
  for (const turned of draws(shape, 'rotate=180', image, 30)) {
    expect(turned[33 * 16 + 16]).toBe(200);
    // A square has its area however it is turned.
    expect(Math.abs(sum(turned) / sum(image) - 1)).toBeLessThan(0.02);
  }
  const areas = draws(shape, 'scale=0.5', image, 60).map((scaled) => sum(scaled) / sum(image));
  expect(Math.min(...areas)).toBeGreaterThan(0.24);
  expect(Math.min(...areas)).toBeLessThan(0.4);
  expect(Math.max(...areas)).toBeLessThan(2.3);
  expect(Math.max(...areas)).toBeGreaterThan(1.8);
});

describe('the regularizer', () => {
  const model = buildModel(LENET5);
  const images = randomImage({ channels: 6, height: 28, width: 28 });
  const batchOf = (order: readonly number[]) => ({
    images: Buffer.concat(order.map((i) => images.subarray(784 * i, 784 * (i + 1)))),
    labels: Uint16Array.from(order),
  });
  const apply = (order: readonly number[], epoch: number, seed = 1) => {
    const regularizer = new Regularizer(model, {
      ...NO_REGULARIZATION,
      seed,
      augment: ['shift', 'rotate', 'noise'],
    });
    const { images: changed } = regularizer.apply(batchOf(order), Uint32Array.from(order), epoch);
    return new Map(order.map((n, i) => [n, key(changed.subarray(784 * i, 784 * (i + 1)))]));
  };

  it('draws by seed, epoch and sample, whatever else is in the batch', () => {
    const whole = apply([0, 1, 2, 3, 4, 5], 3);
    for (const part of [apply([4], 3), apply([5, 1, 0], 3)]) {
      for (const [n, image] of part) expect(image).toBe(whole.get(n));
    }
    const others = [apply([2], 4), apply([2], 3, 2), new Map([[2, whole.get(3)]])];
    for (const other of others) expect(other.get(2)).not.toBe(whole.get(2));
  });
});
