/**
 * Classifies an image with the current weights: a drawing if images have one channel, an image file otherwise. It is
 * classified whenever it changes, and at intervals because the weights change.
 */
import type { RunInfo } from '../update.js';
import { ClassBars } from './class-bars.js';
import { rasterizeCentred, rasterizeInPlace, type Point } from './drawing.js';
import { byId, element, setText, sharpContext, themeColor } from './element.js';
import { formatClass, formatPercent } from './format.js';
import { lookOf, paint, type Look } from './image.js';
import { readPicture } from './picture-file.js';

/** Width of the canvas in its own units, whatever its size on screen. */
const EXTENT = 280;
const PEN_WIDTH = 17;
/** The weights change during the run, so an unchanged drawing is classified again. */
const REPEAT_MS = 1500;
const SPEAK_MS = 700;
/** Pause after a failed request. */
const BACK_OFF_MS = 1000;

export class DrawPad {
  private readonly canvas = byId('pad', HTMLCanvasElement);
  private readonly preview = byId('pad-preview', HTMLCanvasElement);
  private readonly verdict = byId('pad-verdict');
  private readonly file = byId('pad-file', HTMLInputElement);
  private readonly isLight = byId('pad-light', HTMLInputElement);
  private readonly bars = new ClassBars();
  private run: RunInfo | undefined = undefined;
  private look: Look | null = null;
  private invitation = '';
  private strokes: Point[][] = [];
  /** An image put on the canvas instead of strokes. */
  private picture: Uint8Array<ArrayBuffer> | null = null;
  private isAsking = false;
  /** Incremented with every change. */
  private version = 0;
  private speakTimer = 0;
  private repeatTimer = 0;

  constructor() {
    byId('pad-clear').addEventListener('click', () => this.clear());
    this.isLight.addEventListener('change', () => this.changed());
    this.file.addEventListener('change', () => {
      const file = this.file.files?.[0];
      // So that choosing the same file again fires another event.
      this.file.value = '';
      if (file) void this.take(file);
    });
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(canPredict: boolean, run: RunInfo | undefined): void {
    byId('draw-panel').hidden = !canPredict || !run;
    if (!run || run === this.run) return;
    const isSame = JSON.stringify(shapeOf(run)) === JSON.stringify(this.run && shapeOf(this.run));
    this.run = run;
    if (!isSame) this.layOut(run);
  }

  /** Puts an image (C, H, W) on the canvas. */
  put(image: Uint8Array<ArrayBuffer>): void {
    this.strokes = [];
    this.picture = image;
    this.changed();
    const isCalm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
    byId('draw-panel').scrollIntoView({ behavior: isCalm ? 'auto' : 'smooth', block: 'nearest' });
  }

  /** Redraws everything, in the theme's colours. */
  draw(): void {
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth === 0 || !this.look) return;
    const context = sharpContext(this.canvas, clientWidth, clientHeight);
    const { width, height } = this.extent;
    context.scale(clientWidth / width, clientHeight / height);
    if (this.picture) {
      const image = element('canvas');
      paint(image, this.picture, this.look);
      context.drawImage(image, 0, 0, width, height);
    }
    context.strokeStyle = context.fillStyle = themeColor('ink');
    context.lineWidth = PEN_WIDTH;
    context.lineCap = context.lineJoin = 'round';
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // A smooth curve: quadratic segments between midpoints, with the points as control points.
      stroke.forEach(([x, y], at) => {
        const [nextX, nextY] = stroke[at + 1] ?? [x, y];
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      });
      context.stroke();
    }
    paint(this.preview, this.image(), this.look);
  }

  private layOut(run: RunInfo): void {
    const { input, classNames } = run;
    this.look = lookOf(run);
    const { isInk } = this.look;
    const isDigits = classNames.every((name) => /^\d$/.test(name));
    const title = !this.canDraw ? 'Try a picture' : isDigits ? 'Draw a digit' : 'Draw something';
    setText(byId('title-draw'), title);
    this.invitation = this.canDraw
      ? `${title}, with mouse or finger`
      : 'Choose a picture, or one of the mistakes';
    const label = this.canDraw ? `Canvas: ${this.invitation}` : 'The picture';
    this.canvas.setAttribute('aria-label', label);
    this.canvas.style.aspectRatio = `${input.width} / ${input.height}`;
    this.canvas.classList.toggle('can-draw', this.canDraw);
    byId('pad-file-label').hidden = isInk;
    byId('pad-light-label').hidden = isInk || !this.canDraw;
    this.bars.setClasses(classNames);
    this.clear();
  }

  private get canDraw(): boolean {
    return this.look?.input.channels === 1;
  }

  private get extent() {
    const { width, height } = this.look!.input;
    return { width: EXTENT, height: (EXTENT * height) / width };
  }

  private listen(): void {
    const { canvas } = this;
    let pointer: number | null = null;
    const place = (event: PointerEvent): Point => {
      const box = canvas.getBoundingClientRect();
      const { width, height } = this.extent;
      return [
        ((event.clientX - box.left) / box.width) * width,
        ((event.clientY - box.top) / box.height) * height,
      ];
    };
    canvas.addEventListener('pointerdown', (event) => {
      if (pointer !== null || event.button !== 0 || !this.canDraw) return;
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
    this.bars.render(null);
    clearTimeout(this.speakTimer);
    setText(this.verdict, this.invitation);
    this.setAnswer('?');
  }

  private async take(file: File): Promise<void> {
    try {
      this.put(await readPicture(file, this.look!.input));
    } catch (error) {
      setText(this.verdict, error instanceof Error ? error.message : String(error));
    }
  }

  private setAnswer(name: string): void {
    setText(byId('pad-answer'), name);
    byId('pad-answer').classList.toggle('is-word', name.length > 2);
  }

  private changed(): void {
    this.version += 1;
    this.draw();
    if (!this.isEmpty) void this.ask();
  }

  /** Drawings are centred and scaled like MNIST's digits; for datasets of pictures only scaled, by default dark on light. */
  private image(): Uint8Array<ArrayBuffer> {
    const { input, isInk } = this.look!;
    if (this.picture) return this.picture;
    if (this.strokes.length === 0)
      return new Uint8Array(input.channels * input.width * input.height);
    if (isInk) return rasterizeCentred(this.strokes, this.extent, input);
    const image = rasterizeInPlace(this.strokes, this.extent, PEN_WIDTH, input);
    return this.isLight.checked ? image : image.map((value) => 255 - value);
  }

  private get isEmpty(): boolean {
    return !this.picture && this.strokes.length === 0;
  }

  /** One request at a time; changes made meanwhile are classified next, and an unchanged image again after a while. */
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
    // After a failure, new strokes wait for the back-off too.
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
    const name = this.run!.classNames[probabilities.indexOf(largest)];
    this.bars.render(probabilities);
    this.setAnswer(name);
    // Announced once the pen rests, not at every point.
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => {
      setText(this.verdict, `Looks like ${formatClass(name)}, ${formatPercent(largest, 0)} sure`);
    }, SPEAK_MS);
  }
}

function shapeOf({ input, classNames, config: { color } }: RunInfo) {
  return { input, classNames, color };
}

/** @returns probabilities (numClasses,), or a message why there are none */
async function classify(image: Uint8Array<ArrayBuffer>): Promise<number[] | string> {
  try {
    const response = await fetch('api/predict', {
      method: 'POST',
      headers: { 'Content-Type': 'application/octet-stream' },
      body: image,
    });
    if (response.status === 429) return 'Too many requests at once; try again in a moment';
    if (!response.ok) return 'Cannot classify at the moment';
    const answer = (await response.json()) as { probabilities: number[] };
    return answer.probabilities;
  } catch {
    return 'The coordinator does not answer';
  }
}
