import { describe, expect, it } from 'vitest';
import { augmentationWords, parseAugmentation } from '../../src/shared/augmentation.js';

const words = (text: string) => {
  const augmentation = parseAugmentation(text === '' ? [] : text.split(','));
  return augmentation && augmentationWords(augmentation).join();
};

describe('--augment', () => {
  it.each([
    ['', ''],
    ['shift', 'shift=2'],
    ['rotate=15,shift', 'shift=2,rotate=15'],
    [
      'cutout,noise,flip,scale,rotate,shift',
      'shift=2,rotate=10,scale=0.1,flip=0.5,noise=8,cutout=8',
    ],
    ['shift=0,noise=0.50', 'noise=0.5'],
    ['shift=512,scale=0.5,rotate=180', 'shift=512,rotate=180,scale=0.5'],
  ])('"%s" is "%s"', (given, meant) => {
    expect(words(given)).toBe(meant);
    expect(words(meant)).toBe(meant);
  });

  it.each([
    ...[
      'sheer',
      'shift=',
      '=2',
      'shift=-1',
      'shift=1.5',
      'shift=513',
      'shift=1e2',
      'shift=NaN',
      'shift= 2',
    ],
    ...[
      'rotate=181',
      'scale=0.51',
      'scale=Infinity',
      'flip=1.1',
      'noise=0x8',
      'cutout=99999',
      'Shift',
      'shift=1=2',
    ],
    ...[
      'shift,shift',
      'shift=2,',
      'true',
      'false',
      '__proto__',
      'constructor=1',
      'noise=0.12345678901',
    ],
  ])('"%s" is refused', (given) => {
    expect(words(given)).toBeNull();
  });
});
