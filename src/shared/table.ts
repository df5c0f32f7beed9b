/** The one way to print a table. */
import { textWidth } from './text-width.js';

type Rows = readonly (readonly string[])[];

/**
 * The rows as lines, each column as wide as its widest cell.
 *
 * @param isRight whether the cells of a column stand to the right, as numbers do
 */
export function formatTable(rows: Rows, isRight: (column: number) => boolean): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => textWidth(row[column]))));
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const space = ' '.repeat(widths[column] - textWidth(cell));
        return isRight(column) ? space + cell : cell + space;
      })
      .join('  ')
      .trimEnd(),
  );
}

export function leftAligned(rows: Rows): string[] {
  return formatTable(rows, () => false);
}

export function rightAligned(rows: Rows): string[] {
  return formatTable(rows, () => true);
}
