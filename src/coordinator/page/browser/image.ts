/** Paints the model's input images on a canvas. */
import type { InputShape } from '../../../model/lenet.js';
import type { RunInfo } from '../update.js';
import { themeChannels } from './element.js';

/** How the images of a dataset are shown. */
export interface Look {
  readonly input: InputShape;
  /** Shown in the theme's text colour, like MNIST's digits, rather than in the images' own colours. */
  readonly isInk: boolean;
}

/** For a folder of pictures the configuration has `color`; other greyscale images are drawings on an empty background. */
export function lookOf({ input, config }: RunInfo): Look {
  return { input, isInk: input.channels === 1 && config.color === undefined };
}

/** @param image (C, H, W) bytes: grey, grey with alpha, RGB, or RGBA */
export function paint(canvas: HTMLCanvasElement, image: Uint8Array, { input, isInk }: Look): void {
  const { channels, width, height } = input;
  const numPixels = width * height;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d')!;
  const { data } = context.createImageData(width, height);
  const ink = themeChannels('ink');
  const plane = (channel: number, pixel: number) => image[channel * numPixels + pixel];
  for (let pixel = 0; pixel < numPixels; pixel += 1) {
    const color = [0, 1, 2].map((at) => (isInk ? ink[at] : plane(channels < 3 ? 0 : at, pixel)));
    const alpha = channels % 2 === 0 ? plane(channels - 1, pixel) : 255;
    data.set([...color, isInk ? plane(0, pixel) : alpha], 4 * pixel);
  }
  context.putImageData(new ImageData(data, width, height), 0, 0);
}
