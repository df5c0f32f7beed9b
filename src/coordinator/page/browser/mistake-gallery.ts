/** The model's most confident mistakes, as images; each can be put on the canvas of `DrawPad`. */
import type { Mistake, Mistakes, RunInfo } from '../update.js';
import { byId, bytesFromBase64, element, setText } from './element.js';
import { formatClass, formatInteger, formatPercent } from './format.js';
import { lookOf, paint } from './image.js';

export class MistakeGallery {
  private readonly pick: (image: Uint8Array<ArrayBuffer>) => void;

  /** @param pick called with the image (C, H, W) that was clicked */
  constructor(pick: (image: Uint8Array<ArrayBuffer>) => void) {
    this.pick = pick;
  }

  render({ worst, numMistakes }: Mistakes, run: RunInfo): void {
    byId('mistakes').replaceChildren(
      ...worst.map((mistake) => element('li', {}, this.item(mistake, run))),
    );
    setText(
      byId('mistakes-note'),
      numMistakes === 0
        ? 'No mistake in the last evaluation'
        : `${formatInteger(numMistakes)} mistakes in the last evaluation; the surest first`,
    );
    byId('mistakes-panel').hidden = false;
  }

  private item(mistake: Mistake, run: RunInfo): HTMLElement {
    const { confidence, image, index } = mistake;
    const [label, predicted] = [mistake.label, mistake.predicted].map((at) => run.classNames[at]);
    const text = `${formatClass(label)} taken for ${formatClass(predicted)}, ${formatPercent(confidence, 0)} sure`;
    const title = `${text} (image ${index})`;
    const caption = element(
      'span',
      { class: 'mistake-text', 'aria-hidden': 'true' },
      element('b', {}, `${label} → ${predicted}`),
      ' ',
      element('span', {}, formatPercent(confidence, 0)),
    );
    if (image === null) {
      return element('div', { class: 'mistake', role: 'img', 'aria-label': text, title }, caption);
    }
    const pixels = bytesFromBase64(image);
    const canvas = element('canvas');
    paint(canvas, pixels, lookOf(run));
    const button = element(
      'button',
      { class: 'mistake', type: 'button', 'aria-label': `${text}; put it on the canvas`, title },
      canvas,
      caption,
    );
    button.addEventListener('click', () => this.pick(pixels));
    return button;
  }
}
