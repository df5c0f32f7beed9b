/** Some training images of each class side by side, as an image and as coloured characters. Pure. */
import { printable } from '../../shared/printable.js';
import { fitText } from '../../shared/text-width.js';
import { imageBytes, type InputShape } from '../lenet.js';
import type { Dataset } from './dataset.js';
import { resize, type Picture } from './input-image.js';

const MAX_PER_CLASS = 10;
/** On the whole sheet. */
const MAX_CELLS = 600;
/** Side of an image on the sheet, in pixels: smaller ones are enlarged by a whole factor. */
const [MIN_SIDE, MAX_SIDE] = [32, 96];
const NUM_COLUMNS = 20;
const GAP = 2;
const GROUND = 48;

/** The first training images of each class, class by class: (H, W, 3) each. */
export function samplesOf(
  { input, classNames, train }: Dataset,
  perClass: number,
): readonly (readonly Picture[])[] {
  const samples = classNames.map((): Picture[] => []);
  const numBytes = imageBytes(input);
  for (const [index, label] of train.labels.entries()) {
    const own = samples[label];
    if (own.length === perClass) continue;
    own.push(pictureOf(train.images.subarray(index * numBytes, (index + 1) * numBytes), input));
  }
  return samples;
}

/** Of 1 or 2 channels the first is shown, of 3 or 4 the first three. */
function pictureOf(image: Uint8Array, { channels, height, width }: InputShape): Picture {
  const numPixels = height * width;
  const rgb = new Uint8Array(3 * numPixels);
  for (let pixel = 0; pixel < numPixels; pixel++) {
    for (let color = 0; color < 3; color++) {
      rgb[3 * pixel + color] = image[(channels < 3 ? 0 : color) * numPixels + pixel];
    }
  }
  return { width, height, rgb };
}

/** A row for each class, or several classes in a row where there are few images of each. */
export function contactSheet(dataset: Dataset): Picture {
  const numClasses = dataset.classNames.length;
  const perClass = Math.max(1, Math.min(MAX_PER_CLASS, Math.floor(MAX_CELLS / numClasses)));
  const perRow = Math.max(1, Math.floor(NUM_COLUMNS / perClass));
  const { height, width } = dataset.input;
  const fit = fitted(Math.max(height, width));
  const [cellWidth, cellHeight] = [fit(width), fit(height)];
  const columns = perClass * Math.min(perRow, numClasses);
  const rows = Math.ceil(numClasses / perRow);
  const sheetWidth = columns * (cellWidth + GAP) + GAP;
  const sheetHeight = rows * (cellHeight + GAP) + GAP;
  const rgb = new Uint8Array(3 * sheetWidth * sheetHeight).fill(GROUND);
  samplesOf(dataset, perClass).forEach((pictures, label) => {
    const top = GAP + Math.floor(label / perRow) * (cellHeight + GAP);
    pictures.forEach((picture, at) => {
      const left = GAP + ((label % perRow) * perClass + at) * (cellWidth + GAP);
      const cell = scaled(picture, cellWidth, cellHeight);
      for (let row = 0; row < cellHeight; row++) {
        const from = 3 * row * cellWidth;
        const line = cell.rgb.subarray(from, from + 3 * cellWidth);
        rgb.set(line, 3 * ((top + row) * sheetWidth + left));
      }
    });
  });
  return { width: sheetWidth, height: sheetHeight, rgb };
}

/** What becomes of a side where the longer one is `longest`. */
function fitted(longest: number): (side: number) => number {
  const factor =
    longest > MAX_SIDE ? MAX_SIDE / longest : Math.max(1, Math.floor(MIN_SIDE / longest));
  return (side) => Math.max(1, Math.round(side * factor));
}

function scaled({ width, height, rgb }: Picture, newWidth: number, newHeight: number): Picture {
  const scaledRgb = new Uint8Array(3 * newWidth * newHeight);
  for (let color = 0; color < 3; color++) {
    const plane = Uint8Array.from({ length: width * height }, (_, i) => rgb[3 * i + color]);
    resize(plane, width, height, newWidth, newHeight).forEach((value, i) => {
      scaledRgb[3 * i + color] = value;
    });
  }
  return { width: newWidth, height: newHeight, rgb: scaledRgb };
}

/** Of an image in the terminal: a character is one pixel wide and two high. */
const TERMINAL_SIDE = 16;
const MAX_TERMINAL_CLASSES = 24;

/**
 * One image of each class in half blocks, with the names below.
 *
 * @param columns of the terminal
 * @param isTrueColor whether it knows 24-bit colours, else those of the palette of 256
 */
export function terminalSheet(dataset: Dataset, columns: number, isTrueColor: boolean): string[] {
  const shown = samplesOf(dataset, 1)
    .map(([picture], label) => ({ picture, name: dataset.classNames[label] }))
    .filter(({ picture }) => (picture as Picture | undefined) !== undefined)
    .slice(0, MAX_TERMINAL_CLASSES);
  const { height, width } = dataset.input;
  const factor = Math.min(1, TERMINAL_SIDE / Math.max(height, width));
  const cellWidth = Math.max(1, Math.round(width * factor));
  const cellHeight = 2 * Math.max(1, Math.round((height * factor) / 2));
  const stride = Math.max(cellWidth, TERMINAL_SIDE) + 2;
  const perRow = Math.max(1, Math.floor(columns / stride));
  const lines: string[] = [];
  for (let from = 0; from < shown.length; from += perRow) {
    const row = shown.slice(from, from + perRow);
    const cells = row.map(({ picture }) => scaled(picture, cellWidth, cellHeight));
    for (let y = 0; y < cellHeight; y += 2) {
      const parts = cells.map(
        (cell) => halfBlocks(cell, y, isTrueColor) + ' '.repeat(stride - cellWidth),
      );
      lines.push(parts.join('').trimEnd());
    }
    lines.push(
      row
        .map(({ name }) => fitText(printable(name), stride - 2) + '  ')
        .join('')
        .trimEnd(),
      '',
    );
  }
  return lines;
}

function halfBlocks({ width, rgb }: Picture, y: number, isTrueColor: boolean): string {
  const color = (x: number, row: number) => {
    const at = 3 * (row * width + x);
    const [red, green, blue] = rgb.subarray(at, at + 3);
    return isTrueColor ? `2;${red};${green};${blue}` : `5;${paletteColor(red, green, blue)}`;
  };
  const blocks = Array.from(
    { length: width },
    (_, x) => `\x1b[38;${color(x, y)};48;${color(x, y + 1)}m▀`,
  );
  return `${blocks.join('')}\x1b[0m`;
}

/** The nearest of xterm's cube of 6 × 6 × 6 colours, or of its greys. */
function paletteColor(red: number, green: number, blue: number): number {
  if (red === green && green === blue && red > 8 && red < 238) {
    return 232 + Math.round((red - 8) / 10);
  }
  const level = (value: number) =>
    value < 48 ? 0 : value < 115 ? 1 : Math.floor((value - 35) / 40);
  return 16 + 36 * level(red) + 6 * level(green) + level(blue);
}
