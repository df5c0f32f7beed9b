/** Draw a digit: a canvas whose digit the current weights classify while it is drawn. */
import { rasterize, SIZE, type Point } from './digit.js';
import { byId, element, setText, sharpContext, themeColor } from './element.js';
import { formatPercent } from './format.js';
import { paint } from './mistake-gallery.js';

/** Side of the canvas in its own units, whatever its size on the screen. */
const EXTENT = 280;
const PEN_WIDTH = 17;
/** The weights change while the run goes on; what is drawn is asked about again. */
const REPEAT_MS = 1500;
const SPEAK_MS = 700;
/** After an answer that was none. */
const BACK_OFF_MS = 1000;

interface Bar {
  readonly row: HTMLElement;
  readonly value: HTMLElement;
}

export class DrawPad {
  private readonly canvas = byId('pad', HTMLCanvasElement);
  private readonly preview = byId('pad-preview', HTMLCanvasElement);
  private readonly verdict = byId('pad-verdict');
  private readonly bars: Bar[] = [];
  private strokes: Point[][] = [];
  /** An image put on the canvas instead of strokes. */
  private picture: Uint8Array<ArrayBuffer> | null = null;
  private isAsking = false;
  /** Counts what was drawn. */
  private version = 0;
  private speakTimer = 0;
  private repeatTimer = 0;

  constructor() {
    for (let digit = 0; digit < 10; digit += 1) {
      const value = element('span', { class: 'bar-value' });
      const fill = element('span', { class: 'bar-fill', 'aria-hidden': 'true' });
      const track = element('span', { class: 'bar-track' }, fill);
      const name = element('span', { class: 'bar-name' }, String(digit));
      const row = element('li', {}, name, track, value);
      this.bars.push({ row, value });
    }
    byId('pad-bars').append(...this.bars.map(({ row }) => row));
    byId('pad-clear').addEventListener('click', () => this.clear());
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.clear();
  }

  show(canPredict: boolean): void {
    byId('draw-panel').hidden = !canPredict;
  }

  /** Puts an image (784,) on the canvas. */
  put(image: Uint8Array<ArrayBuffer>): void {
    this.strokes = [];
    this.picture = image;
    this.changed();
    const isCalm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
    byId('draw-panel').scrollIntoView({ behavior: isCalm ? 'auto' : 'smooth', block: 'nearest' });
  }

  /** Draws in the theme's colours. */
  draw(): void {
    const side = this.canvas.clientWidth;
    if (side === 0) return;
    const context = sharpContext(this.canvas, side, side);
    context.scale(side / EXTENT, side / EXTENT);
    if (this.picture) {
      const image = element('canvas', { width: String(SIZE), height: String(SIZE) });
      paint(image, this.picture);
      context.drawImage(image, 0, 0, EXTENT, EXTENT);
    }
    context.strokeStyle = context.fillStyle = themeColor('ink');
    context.lineWidth = PEN_WIDTH;
    context.lineCap = context.lineJoin = 'round';
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // Through the middles between points, with the points as handles: no corners where the hand made none.
      stroke.forEach(([x, y], at) => {
        const [nextX, nextY] = stroke[at + 1] ?? [x, y];
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      });
      context.stroke();
    }
    paint(this.preview, this.image());
  }

  private listen(): void {
    const { canvas } = this;
    let pointer: number | null = null;
    const place = (event: PointerEvent): Point => {
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * EXTENT,
        ((event.clientY - box.top) / box.height) * EXTENT,
      ];
    };
    canvas.addEventListener('pointerdown', (event) => {
      if (pointer !== null || event.button !== 0) return;
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      if (this.picture) this.clear();
      this.strokes.push([place(event)]);
      this.changed();
      event.preventDefault();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.pointerId !== pointer) return;
      const stroke = this.strokes.at(-1);
      const passed = event.getCoalescedEvents();
      stroke?.push(...(passed.length > 0 ? passed : [event]).map(place));
      this.changed();
    });
    const lift = (event: PointerEvent) => {
      if (event.pointerId === pointer) pointer = null;
    };
    canvas.addEventListener('pointerup', lift);
    canvas.addEventListener('pointercancel', lift);
  }

  private clear(): void {
    this.strokes = [];
    this.picture = null;
    this.draw();
    for (const { row, value } of this.bars) {
      row.style.setProperty('--part', '0');
      row.classList.remove('is-first');
      setText(value, '');
    }
    clearTimeout(this.speakTimer);
    setText(this.verdict, 'Draw a digit, with mouse or finger');
    byId('pad-answer').textContent = '?';
  }

  private changed(): void {
    this.version += 1;
    this.draw();
    void this.ask();
  }

  private image(): Uint8Array<ArrayBuffer> {
    return this.picture ?? rasterize(this.strokes, EXTENT);
  }

  private get isEmpty(): boolean {
    return !this.picture && this.strokes.length === 0;
  }

  /** One question at a time; what was drawn meanwhile is asked about next, and everything again after a while. */
  private async ask(): Promise<void> {
    if (this.isAsking) return;
    clearTimeout(this.repeatTimer);
    this.isAsking = true;
    const asked = this.version;
    const answer = await classify(this.image());
    const isAnswered = Array.isArray(answer);
    if (!this.isEmpty) {
      if (isAnswered) this.answer(answer);
      else setText(this.verdict, answer);
    }
    // After a failure new strokes wait, too.
    this.isAsking = !isAnswered;
    const repeat = () => {
      this.isAsking = false;
      if (!this.isEmpty && !document.hidden) void this.ask();
    };
    const pauseMs = this.version > asked ? 0 : REPEAT_MS;
    this.repeatTimer = setTimeout(repeat, isAnswered ? pauseMs : BACK_OFF_MS);
  }

  private answer(probabilities: readonly number[]): void {
    const largest = Math.max(...probabilities);
    const first = probabilities.indexOf(largest);
    this.bars.forEach(({ row, value }, digit) => {
      row.style.setProperty('--part', probabilities[digit].toFixed(4));
      row.classList.toggle('is-first', digit === first);
      setText(value, formatPercent(probabilities[digit], 0));
    });
    byId('pad-answer').textContent = String(first);
    // Spoken when the hand rests, not with every point.
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => {
      setText(this.verdict, `Looks like a ${first}, ${formatPercent(largest, 0)} sure`);
    }, SPEAK_MS);
  }
}

/** Probabilities of the ten digits, or why there are none. */
async function classify(image: Uint8Array<ArrayBuffer>): Promise<number[] | string> {
  try {
    const response = await fetch('api/predict', {
      method: 'POST',
      headers: { 'Content-Type': 'application/octet-stream' },
      body: image,
    });
    if (response.status === 429) return 'Too many questions at once; in a moment again';
    if (!response.ok) return 'Cannot classify just now';
    const answer = (await response.json()) as { probabilities: number[] };
    return answer.probabilities;
  } catch {
    return 'The coordinator does not answer';
  }
}
