/** Prepares the viewer's image file for the model in the browser, like `lockstep predict` does. */
import { toInput } from '../../../model/data/input-image.js';
import type { InputShape } from '../../../model/lenet.js';
import { element } from './element.js';
import { formatInteger } from './format.js';

/** The same limit as for `lockstep predict`; model/data/png.ts */
const MAX_PIXELS = 2 ** 25;

/**
 * @returns (C, H, W) bytes; transparent pixels become black
 * @throws {Error} if the browser cannot read it or it is too large, with a message for the viewer
 */
export async function readPicture(file: Blob, input: InputShape): Promise<Uint8Array<ArrayBuffer>> {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' }).catch(
    (cause: unknown) => {
      throw new Error('This browser cannot read that file as a picture', { cause });
    },
  );
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) {
      throw new Error(`That picture has more than ${formatInteger(MAX_PIXELS)} pixels`);
    }
    const canvas = element('canvas', { width: String(width), height: String(height) });
    const context = canvas.getContext('2d')!;
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const rgb = new Uint8Array(3 * width * height);
    for (let at = 0; at < rgb.length; at += 1) rgb[at] = data[4 * Math.floor(at / 3) + (at % 3)];
    return toInput({ width, height, rgb }, input);
  } finally {
    bitmap.close();
  }
}
