import { execFile } from 'node:child_process';
import { readFile, mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { createAppendFile } from '../../../src/shared/node/append-file.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const BUILT = new URL('../../../dist/shared/node/append-file.js', import.meta.url).href;
const noWarning = (message: string) => expect.fail(`Unexpected warning: ${message}`);

describe('createAppendFile()', () => {
  it('writes records in order, once each', async () => {
    const path = join(await temporaryDirectory(), 'records');
    const file = createAppendFile(path, { warn: noWarning });
    const expected = Array.from({ length: 1000 }, (_, index) => `record ${index}\n`);
    for (const [index, record] of expected.entries()) {
      file.append(record);
      if (index % 300 === 0) await file.flush();
    }
    await file.close();
    expect(await readFile(path, 'utf8')).toBe(expected.join(''));
    expect(file.numDropped).toBe(0);
  });

  it('flush() resolves when what was appended before it is in the file', async () => {
    const path = join(await temporaryDirectory(), 'records');
    const file = createAppendFile(path, { warn: noWarning });
    file.append('a');
    const first = file.flush();
    file.append('b');
    await Promise.all([first, file.flush()]);
    expect(await readFile(path, 'utf8')).toBe('ab');
    await file.close();
  });

  it('writes by itself after a while', async () => {
    const path = join(await temporaryDirectory(), 'records');
    const file = createAppendFile(path, { warn: noWarning, delayMs: 1 });
    file.append('a');
    await vi.waitFor(async () => expect(await readFile(path, 'utf8')).toBe('a'));
    await file.close();
  });

  it('adds to a file that is there, or replaces it', async () => {
    const path = join(await temporaryDirectory(), 'records');
    await writeFile(path, 'old ');
    for (const [truncate, expected] of [
      [false, 'old new'],
      [true, 'new'],
    ] as const) {
      const file = createAppendFile(path, { warn: noWarning, truncate });
      file.append('new');
      await file.close();
      expect(await readFile(path, 'utf8')).toBe(expected);
    }
  });

  it('warns once while writing fails, keeps what fits, and goes on when it works', async () => {
    const path = join(await temporaryDirectory(), 'records');
    await mkdir(path); // no file can be opened there
    const warnings: string[] = [];
    const file = createAppendFile(path, {
      warn: (message) => warnings.push(message),
      maxBufferedBytes: 6,
    });
    for (const record of ['aa\n', 'bb\n', 'cc\n', 'dd\n']) {
      file.append(record);
      await file.flush();
    }
    expect(warnings).toEqual([expect.stringContaining(`Cannot write to ${path}: EISDIR`)]);
    expect(file.numDropped).toBe(2);

    await rmdir(path);
    await file.flush();
    file.append('ee\n');
    await file.close();
    expect(await readFile(path, 'utf8')).toBe('aa\nbb\nee\n');
    expect(warnings).toHaveLength(2);
    expect(warnings[1]).toBe(`Writing to ${path} works again; 2 records were lost`);
  });

  it.skipIf(process.platform === 'win32')(
    'numBytes is of whole records, also where a write went through in part only',
    async () => {
      const path = join(await temporaryDirectory(), 'records');
      const program = `
        const { createAppendFile } = await import(${JSON.stringify(BUILT)});
        const warn = (message) => console.log(message);
        const file = createAppendFile(${JSON.stringify(path)}, { warn });
        file.append('first');
        await file.flush();
        file.append('x'.repeat(20_000));
        await file.close();
        console.log(file.numBytes);`;
      // No file of that process may grow beyond some kilobytes.
      const limited = ['-c', 'ulimit -f 8; exec "$@"', 'sh', process.execPath];
      const { stdout } = await promisify(execFile)('sh', [
        ...limited,
        ...['--input-type=module', '-e', program],
      ]);
      expect(stdout).toMatch(/^Cannot write to .*: EFBIG[^\n]*\n5\n$/);
      expect((await readFile(path)).length).toBeGreaterThan(5);
    },
  );

  it.skipIf(!existsSync('/dev/full'))('close() counts what a full disk did not take', async () => {
    const warn = vi.fn();
    const file = createAppendFile('/dev/full', { warn });
    file.append('a');
    file.append('b');
    await file.close();
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('ENOSPC'));
    expect(file.numDropped).toBe(2);
  });
});
