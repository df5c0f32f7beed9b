import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseJson, stringifyJson } from '../../src/shared/json.js';

test('parseJson() gives what JSON.parse gives', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5, noUnicodeString: false }), (value) => {
      const text = JSON.stringify(value);
      expect(parseJson(text)).toEqual(JSON.parse(text));
      expect(stringifyJson(value)).toBe(text);
    }),
  );
});

test.each([
  ['levels', '['.repeat(9) + ']'.repeat(9), 'JSON of more than 8 levels'],
  ['levels in its middle', `[1,${'{"a":'.repeat(8)}1${'}'.repeat(8)},2]`, 'more than 8 levels'],
  ['lists', `[${'[],'.repeat(100_000)}[]]`, 'JSON of more than 200000 values'],
  ['numbers', `[${'0,'.repeat(200_000)}0]`, 'JSON of more than 200000 values'],
  ['keys', `{${'"a":0,'.repeat(100_000)}"b":0}`, 'JSON of more than 200000 values'],
])('parseJson() refuses too many %s before it parses', (_, text, message) => {
  expect(() => parseJson(text)).toThrow(RangeError);
  expect(() => parseJson(text)).toThrow(message);
});

test('parseJson() counts nothing within a text', () => {
  const value = [`\\"${'[{,:'.repeat(100_000)}`, '\\'];
  expect(parseJson(JSON.stringify(value))).toEqual(value);
});

test('parseJson() says what is no JSON', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      let expected: unknown;
      try {
        expected = JSON.parse(text);
      } catch {
        expect(() => parseJson(text)).toThrow();
        return;
      }
      expect(parseJson(text)).toEqual(expected);
    }),
  );
});
