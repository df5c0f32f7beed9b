/**
 * A drawn digit as an image of the kind that MNIST has: its ink fills a box of 20×20 pixels, kept in proportion, and its
 * centre of mass is the middle of the 28×28 image (http://yann.lecun.com/exdb/mnist/).
 *
 * Strokes are scaled as lines and drawn with a pen of constant width, so that a digit drawn small is not drawn fat.
 * Pure; nothing of the browser's.
 */
export type Point = readonly [x: number, y: number];
/** Points of one pen stroke, in any unit. */
export type Stroke = readonly Point[];

export const SIZE = 28;
const BOX = 20;
/** Half of the pen's width, in pixels of the image, as most of MNIST's writers pressed. */
const PEN_RADIUS = 1.15;

/**
 * @param extent side of the canvas that was drawn on; a digit smaller than a fifth of it is not blown up to the box
 * @returns (784,) bytes, 255 is ink; all zero when there is no stroke
 */
export function rasterize(strokes: readonly Stroke[], extent: number): Uint8Array<ArrayBuffer> {
  const points = strokes.flat();
  if (points.length === 0) return new Uint8Array(SIZE * SIZE);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const scale = (BOX - 2 * PEN_RADIUS) / Math.max(right - left, bottom - top, extent / 5);
  const place = (dx: number, dy: number) =>
    strokes.map((stroke) =>
      stroke.map(([x, y]): Point => {
        const column = SIZE / 2 + (x - (left + right) / 2) * scale + dx;
        return [column, SIZE / 2 + (y - (top + bottom) / 2) * scale + dy];
      }),
    );
  const [x, y] = centreOfMass(ink(place(0, 0)));
  return Uint8Array.from(ink(place(SIZE / 2 - x, SIZE / 2 - y)), (value) =>
    Math.round(255 * value),
  );
}

/** (784,) coverage of each pixel by the pen, 0–1. */
function ink(strokes: readonly Stroke[]): Float64Array {
  const image = new Float64Array(SIZE * SIZE);
  for (const stroke of strokes) {
    for (let at = 0; at < stroke.length; at += 1) {
      const from = stroke[Math.max(0, at - 1)];
      const to = stroke[at];
      const reach = PEN_RADIUS + 1;
      const firstRow = clamp(Math.floor(Math.min(from[1], to[1]) - reach));
      const lastRow = clamp(Math.ceil(Math.max(from[1], to[1]) + reach));
      const firstColumn = clamp(Math.floor(Math.min(from[0], to[0]) - reach));
      const lastColumn = clamp(Math.ceil(Math.max(from[0], to[0]) + reach));
      for (let row = firstRow; row <= lastRow; row += 1) {
        for (let column = firstColumn; column <= lastColumn; column += 1) {
          const gap = distance([column + 0.5, row + 0.5], from, to);
          const coverage = Math.min(1, Math.max(0, PEN_RADIUS + 0.5 - gap));
          const index = SIZE * row + column;
          image[index] = Math.max(image[index], coverage);
        }
      }
    }
  }
  return image;
}

function centreOfMass(image: Float64Array): Point {
  let mass = 0;
  let x = 0;
  let y = 0;
  image.forEach((value, index) => {
    mass += value;
    x += value * ((index % SIZE) + 0.5);
    y += value * (Math.floor(index / SIZE) + 0.5);
  });
  return mass > 0 ? [x / mass, y / mass] : [SIZE / 2, SIZE / 2];
}

/** From a point to the segment a–b. */
function distance([x, y]: Point, a: Point, b: Point): number {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const squared = dx * dx + dy * dy;
  const along = squared > 0 ? ((x - a[0]) * dx + (y - a[1]) * dy) / squared : 0;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(x - a[0] - t * dx, y - a[1] - t * dy);
}

function clamp(index: number): number {
  return Math.min(SIZE - 1, Math.max(0, index));
}
