/** The mistakes that the model is surest of, as pictures; each can be put on the canvas of `DrawPad`. */
import type { Mistakes } from '../update.js';
import { byId, bytesFromBase64, element, setText, themeChannels } from './element.js';
import { formatInteger, formatPercent } from './format.js';
import { SIZE } from './digit.js';

export class MistakeGallery {
  private readonly pick: (image: Uint8Array<ArrayBuffer>) => void;

  /** @param pick takes the image (784,) that was clicked */
  constructor(pick: (image: Uint8Array<ArrayBuffer>) => void) {
    this.pick = pick;
  }

  render({ worst, numMistakes }: Mistakes): void {
    byId('mistakes').replaceChildren(
      ...worst.map(({ label, predicted, confidence, image, index }) => {
        const pixels = bytesFromBase64(image);
        const canvas = element('canvas', { width: String(SIZE), height: String(SIZE) });
        paint(canvas, pixels);
        const text = `A ${label} taken for a ${predicted}, ${formatPercent(confidence, 0)} sure`;
        const button = element(
          'button',
          {
            type: 'button',
            'aria-label': `${text}; put it on the canvas`,
            title: `${text} (image ${index})`,
          },
          canvas,
          element(
            'span',
            { class: 'mistake-text', 'aria-hidden': 'true' },
            element('b', {}, `${label} → ${predicted}`),
            ' ',
            element('span', {}, formatPercent(confidence, 0)),
          ),
        );
        button.addEventListener('click', () => this.pick(pixels));
        return element('li', {}, button);
      }),
    );
    setText(
      byId('mistakes-note'),
      numMistakes === 0
        ? 'No mistake in the last evaluation'
        : `${formatInteger(numMistakes)} mistakes in the last evaluation; the surest first`,
    );
    byId('mistakes-panel').hidden = false;
  }
}

/** Draws an image (784,) as dark ink on paper, or light ink on dark: the colour of the text. */
export function paint(canvas: HTMLCanvasElement, pixels: Uint8Array): void {
  const context = canvas.getContext('2d')!;
  const data = context.createImageData(SIZE, SIZE);
  const [red, green, blue] = themeChannels('ink');
  pixels.forEach((value, index) => data.data.set([red, green, blue, value], 4 * index));
  context.putImageData(data, 0, 0);
}
