/**
 * Turns a drawing into an image of the model's input size. Digits become images like those of MNIST: the ink is fitted into
 * a box of 20×20 pixels, keeping its proportions, and its centre of mass is moved to the middle of the 28×28 image
 * (http://yann.lecun.com/exdb/mnist/); for other image sizes, everything is scaled.
 *
 * Strokes are scaled as lines and drawn with a pen of constant width, so that a digit drawn small does not become thick.
 * Pure; uses nothing from the browser.
 */
export type Point = readonly [x: number, y: number];
/** Points of one pen stroke, in any unit. */
export type Stroke = readonly Point[];

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Of MNIST's images, in pixels. */
const SIDE = 28;
const BOX = 20;
/** Half of the pen's width in pixels, typical of MNIST. */
const PEN_RADIUS = 1.15;

/**
 * The drawing, centred and scaled like MNIST's digits.
 *
 * @param extent of the canvas; a digit smaller than a fifth of it is not enlarged to fill the box
 * @returns (H, W) bytes, 255 is ink; all zero without strokes
 */
export function rasterizeCentred(
  strokes: readonly Stroke[],
  extent: Size,
  size: Size,
): Uint8Array<ArrayBuffer> {
  const points = strokes.flat();
  const unit = Math.min(size.width, size.height) / SIDE;
  const radius = PEN_RADIUS * unit;
  const [left, right] = extremesOf(points.map(([x]) => x));
  const [top, bottom] = extremesOf(points.map(([, y]) => y));
  const least = Math.min(extent.width, extent.height) / 5;
  const scale = (BOX * unit - 2 * radius) / Math.max(right - left, bottom - top, least);
  const place = (dx: number, dy: number) =>
    strokes.map((stroke) =>
      stroke.map(([x, y]): Point => {
        const column = size.width / 2 + (x - (left + right) / 2) * scale + dx;
        return [column, size.height / 2 + (y - (top + bottom) / 2) * scale + dy];
      }),
    );
  const [x, y] = centreOfMass(ink(place(0, 0), radius, size), size);
  return toBytes(ink(place(size.width / 2 - x, size.height / 2 - y), radius, size));
}

/**
 * The drawing, scaled to the image without being moved.
 *
 * @param extent of the canvas
 * @param penWidth in the canvas's units
 * @returns (H, W) bytes, 255 is ink
 */
export function rasterizeInPlace(
  strokes: readonly Stroke[],
  extent: Size,
  penWidth: number,
  size: Size,
): Uint8Array<ArrayBuffer> {
  const [scaleX, scaleY] = [size.width / extent.width, size.height / extent.height];
  const placed = strokes.map((stroke) => stroke.map(([x, y]): Point => [x * scaleX, y * scaleY]));
  return toBytes(ink(placed, (penWidth / 2) * Math.min(scaleX, scaleY), size));
}

function toBytes(image: Float64Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(image, (value) => Math.round(255 * value));
}

/** (H, W) coverage of each pixel by the pen, 0–1. */
function ink(strokes: readonly Stroke[], radius: number, { width, height }: Size): Float64Array {
  const image = new Float64Array(width * height);
  for (const stroke of strokes) {
    for (let at = 0; at < stroke.length; at += 1) {
      const from = stroke[Math.max(0, at - 1)];
      const to = stroke[at];
      const reach = radius + 1;
      const firstRow = Math.max(0, Math.floor(Math.min(from[1], to[1]) - reach));
      const lastRow = Math.min(height - 1, Math.ceil(Math.max(from[1], to[1]) + reach));
      const firstColumn = Math.max(0, Math.floor(Math.min(from[0], to[0]) - reach));
      const lastColumn = Math.min(width - 1, Math.ceil(Math.max(from[0], to[0]) + reach));
      for (let row = firstRow; row <= lastRow; row += 1) {
        for (let column = firstColumn; column <= lastColumn; column += 1) {
          const gap = distance([column + 0.5, row + 0.5], from, to);
          const coverage = Math.min(1, Math.max(0, radius + 0.5 - gap));
          const index = width * row + column;
          image[index] = Math.max(image[index], coverage);
        }
      }
    }
  }
  return image;
}

function centreOfMass(image: Float64Array, { width, height }: Size): Point {
  let mass = 0;
  let x = 0;
  let y = 0;
  image.forEach((value, index) => {
    mass += value;
    x += value * ((index % width) + 0.5);
    y += value * (Math.floor(index / width) + 0.5);
  });
  return mass > 0 ? [x / mass, y / mass] : [width / 2, height / 2];
}

/** Distance of a point from the segment a–b. */
function distance([x, y]: Point, a: Point, b: Point): number {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const squared = dx * dx + dy * dy;
  const along = squared > 0 ? ((x - a[0]) * dx + (y - a[1]) * dy) / squared : 0;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(x - a[0] - t * dx, y - a[1] - t * dy);
}

/** A call with all of them as arguments would overflow the stack. */
function extremesOf(values: readonly number[]): readonly [least: number, most: number] {
  return [
    values.reduce((least, value) => Math.min(least, value), Infinity),
    values.reduce((most, value) => Math.max(most, value), -Infinity),
  ];
}
