/** The width of text on a terminal, where a character may take two columns, or none. */
import stringWidth from 'string-width';

/** Columns that the text takes; `string-width` knows all of Unicode, and takes its time. */
export function textWidth(text: string): number {
  return /^[ -~─-▟●○…≈]*$/.test(text) ? text.length : stringWidth(text);
}

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** As much of the text as fits `width` columns. */
export function cutText(text: string, width: number): string {
  let result = '';
  let room = width;
  for (const { segment } of graphemes.segment(text)) {
    room -= textWidth(segment);
    if (room < 0) break;
    result += segment;
  }
  return result;
}

/** The text in exactly `width` columns: with an ellipsis where it is wider, else with spaces behind it. */
export function fitText(text: string, width: number): string {
  const fitting = textWidth(text) <= width ? text : `${cutText(text, width - 1)}…`;
  return fitting + ' '.repeat(Math.max(0, width - textWidth(fitting)));
}
