/**
 * Makes untrusted text (names of workers, hosts, devices) safe to display: a name must not move the cursor, clear the screen,
 * start a new line or reverse the reading direction.
 */

const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** The text with control characters written out, `\u{1b}` for an escape. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u{${character.codePointAt(0)!.toString(16).padStart(2, '0')}}`,
  );
}
