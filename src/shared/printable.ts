/**
 * Text from elsewhere (names of workers, hosts, devices) made safe to show: a name must not move the cursor, clear
 * the screen, begin a new line or turn the reading direction round.
 */

const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** The text with control characters written out, `\u{1b}` for an escape. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u{${character.codePointAt(0)!.toString(16).padStart(2, '0')}}`,
  );
}
