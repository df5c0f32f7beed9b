/**
 * Untrusted JSON, bounded before it is parsed: the result of `JSON.parse` can take fifty times as much memory as its text, with an
 * empty list for every two characters.
 */

export interface JsonLimits {
  /** Levels of lists and objects. */
  readonly maxDepth: number;
  /** Lists, objects and what stands in them, counted by their brackets, commas and colons. */
  readonly maxValues: number;
}

/** More than any file of ours has; with each value at its most expensive, some tens of megabytes. */
const LIMITS: JsonLimits = { maxDepth: 8, maxValues: 200_000 };

/** @throws {SyntaxError | RangeError} if it is no JSON, or has more in it than the limits allow */
export function parseJson(text: string, limits: JsonLimits = LIMITS): unknown {
  checkLimits(text, limits);
  return JSON.parse(text);
}

/** As `JSON.stringify`. @throws {RangeError} if `parseJson` would not take it */
export function stringifyJson(value: unknown): string {
  const text = JSON.stringify(value);
  checkLimits(text, LIMITS);
  return text;
}

/** Counts the contents of a text without parsing it. */
function checkLimits(json: string, { maxDepth, maxValues }: JsonLimits): void {
  let depth = 0;
  let numValues = 1;
  let isInString = false;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (isInString) {
      if (character === '\\') at++;
      else if (character === '"') isInString = false;
      continue;
    }
    if (character === '"') isInString = true;
    else if (character === ',' || character === ':') numValues++;
    else if (character === '[' || character === '{') {
      depth++;
      numValues++;
    } else if (character === ']' || character === '}') depth--;
    if (depth > maxDepth) throw new RangeError(`JSON of more than ${maxDepth} levels`);
    if (numValues > maxValues) throw new RangeError(`JSON of more than ${maxValues} values`);
  }
}
