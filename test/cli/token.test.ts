/** Tokens that the user gives: those that a link, a header and a cookie can carry. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readToken } from '../../src/cli/token.js';
import { UsageError } from '../../src/shared/errors.js';
import { formatJoinLine, parseJoinLine } from '../../src/shared/join-line.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const VISIBLE = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).join('');

it('readToken() takes all that is visible in ASCII, which a join line carries', () => {
  expect(readToken(VISIBLE, undefined)).toBe(VISIBLE);
  const line = { url: 'ws://host:1', token: VISIBLE, pin: null };
  expect(parseJoinLine(formatJoinLine(line))).toEqual(line);
});

it.each(['open sesame', ' sesame', 'sesame\n', 'sésame', 'ses\u00adame', '\u0000'])(
  'readToken() refuses %j, from a flag and a file, and does not repeat it',
  async (token) => {
    const file = join(await temporaryDirectory(), 'file');
    await writeFile(file, `x${token}x\n`);
    const sentence = /^Cannot use the token (of --look-token|in \S+file): expected letters, digits/;
    for (const read of [
      () => readToken(token, undefined, '--look-token'),
      () => readToken(undefined, file),
    ]) {
      expect(read).toThrow(UsageError);
      expect(read).toThrow(sentence);
      expect(read).not.toThrow(/same/);
    }
  },
);

it('readToken() of a file ignores the end of its line', async () => {
  const file = join(await temporaryDirectory(), 'file');
  await writeFile(file, 'sesame\r\n');
  expect(readToken(undefined, file)).toBe('sesame');
});
