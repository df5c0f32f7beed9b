/** Whether an image prepared like MNIST's can contain exactly one digit, judged by its shape. */

/** Of 255; fainter pixels count as background. */
const MIN_INK = 40;
/** Shares of the ink on both sides of an empty column, or row, from which on they are two things. */
const COLUMN_SHARE = 0.18;
const ROW_SHARE = 0.35;
/** Parts that do not touch, of a digit drawn with several strokes. */
const MAX_PARTS = 5;
/** Width over height. */
const MAX_ASPECT = 1.8;
/** Mean ink of the box around it, of something that is not as narrow as a 1. */
const MAX_COVERAGE = 0.75;
const MIN_SOLID_ASPECT = 0.5;

/**
 * @param image (size · size,) bytes, 0 is the background
 * @returns why it can hardly be one digit, in a few words; null if it can
 */
export function digitDoubt(image: Uint8Array, size: number): string | null {
  const columns = new Float64Array(size);
  const rows = new Float64Array(size);
  image.forEach((ink, i) => {
    if (ink < MIN_INK) return;
    columns[i % size] += ink;
    rows[Math.floor(i / size)] += ink;
  });
  const [width, height] = [columns, rows].map(extent);
  if (width === 0) return 'it shows nothing';
  const isSeveral =
    isSplit(columns, COLUMN_SHARE) ||
    isSplit(rows, ROW_SHARE) ||
    countParts(image, size) > MAX_PARTS;
  if (isSeveral) return 'it shows several things';
  if (width / height > MAX_ASPECT) return 'it is wider than a digit';
  const coverage = columns.reduce((sum, ink) => sum + ink, 0) / (255 * width * height);
  return coverage > MAX_COVERAGE && width / height > MIN_SOLID_ASPECT ? 'it shows an area' : null;
}

/** From the first place with ink to behind the last. */
function extent(ink: Float64Array): number {
  const last = ink.findLastIndex((value) => value > 0);
  return last < 0 ? 0 : last + 1 - ink.findIndex((value) => value > 0);
}

/** Whether a place without ink has at least that share of all ink on either side. */
function isSplit(ink: Float64Array, share: number): boolean {
  const total = ink.reduce((sum, value) => sum + value, 0);
  let before = 0;
  return ink.some((value) => {
    before += value;
    return value === 0 && Math.min(before, total - before) >= share * total;
  });
}

/** Groups of pixels with ink that touch each other, corners included. */
function countParts(image: Uint8Array, size: number): number {
  const isLeft = Array.from(image, (ink) => ink >= MIN_INK);
  let numParts = 0;
  isLeft.forEach((_, start) => {
    if (!isLeft[start]) return;
    numParts++;
    isLeft[start] = false;
    const open = [start];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const [row, column] = [Math.floor(at / size), at % size];
      for (let i = Math.max(0, row - 1); i <= Math.min(size - 1, row + 1); i++) {
        for (let j = Math.max(0, column - 1); j <= Math.min(size - 1, column + 1); j++) {
          if (!isLeft[i * size + j]) continue;
          isLeft[i * size + j] = false;
          open.push(i * size + j);
        }
      }
    }
  });
  return numParts;
}
