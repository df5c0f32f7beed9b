import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLog } from '../../../src/shared/node/log.js';
import { captureLog } from '../../support/capture-log.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

afterEach(() => {
  vi.unstubAllEnvs();
});

const CONTROL = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;

describe('createLog()', () => {
  it('writes lines for people: time, level when it is not info, message', () => {
    const { log, text } = captureLog();
    log.info('Listening');
    log.warn('Disk full');
    expect(text()).toMatch(/^\d\d:\d\d:\d\d Listening\n\d\d:\d\d:\d\d warn: Disk full\n$/);
  });

  it('leaves out what is above its level', () => {
    const { log, lines } = captureLog({ level: 'warn' });
    log.info('info');
    log.debug('debug');
    log.error('error');
    expect(lines()).toEqual(['error: error']);
  });

  it('quiet keeps warnings and errors on the console, and everything in the file', async () => {
    const file = join(await temporaryDirectory(), 'log.jsonl');
    const { log, lines } = captureLog({ quiet: true, file });
    log.info('one');
    log.warn('two');
    await log.close();
    expect(lines()).toEqual(['warn: two']);
    const kept = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(kept.map((line) => (JSON.parse(line) as { message: string }).message)).toEqual([
      'one',
      'two',
    ]);
  });

  it('writes JSON lines with fields, errors with their stack', async () => {
    const file = join(await temporaryDirectory(), 'log.jsonl');
    const { log, lines } = captureLog({ file });
    log.info('Step', { globalStep: 7, error: new RangeError('too far') });
    await log.close();
    expect(lines()).toEqual(['Step']);
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
      level: 'info',
      message: 'Step',
      globalStep: 7,
      error: expect.stringMatching(/^RangeError: too far\n +at /) as string,
    });
  });

  it('close() keeps a burst of lines, in order', async () => {
    const file = join(await temporaryDirectory(), 'log.jsonl');
    const { log, lines } = captureLog({ file });
    const expected = Array.from({ length: 2000 }, (_, index) => `line ${index}`);
    for (const line of expected) log.info(line);
    expect(lines()).toEqual(expected);
    await log.close();
    expect((await readFile(file, 'utf8')).trimEnd().split('\n')).toHaveLength(2000);
  });

  it('puts no control characters into a pipe, whatever the message holds', () => {
    const { log, text } = captureLog();
    log.warn('worker \x1b[2J\rbox\x07\nwarn: forged');
    expect(text()).not.toMatch(CONTROL);
    expect(text().match(/\n/g)).toHaveLength(1);
  });

  it('colours on a terminal, not with NO_COLOR', () => {
    vi.stubEnv('NO_COLOR', '');
    vi.stubEnv('TERM', 'xterm');
    const colored = captureLog({}, { isTTY: true });
    colored.log.warn('Disk full');
    expect(colored.text()).toContain('\x1b[33mwarn: Disk full\x1b[0m');
    vi.stubEnv('NO_COLOR', '1');
    const plain = captureLog({}, { isTTY: true });
    plain.log.warn('Disk full');
    expect(plain.text()).not.toMatch(CONTROL);
  });

  it('lines scroll above a status', () => {
    const { log, text } = captureLog();
    log.setStatus({ erase: () => '<erase>', draw: () => '<status>' });
    log.info('line');
    log.setStatus(null);
    log.info('last');
    expect(text().replace(/\d\d:\d\d:\d\d /g, '')).toBe(
      '<status><erase>line\n<status><erase>last\n',
    );
  });

  it('goes on when nobody reads the console any more', async () => {
    const file = join(await temporaryDirectory(), 'log.jsonl');
    const stream = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      },
    });
    const log = createLog({ level: 'info', file, stream });
    log.info('one');
    await log.flush();
    log.info('two');
    await log.close();
    expect((await readFile(file, 'utf8')).trimEnd().split('\n')).toHaveLength(2);
  });
});
