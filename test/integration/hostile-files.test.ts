/**
 * Files that lie about themselves, handed to the program: it ends with one sentence, and takes no more memory than the
 * little that it needs without them.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL, fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeFile } from 'node:fs/promises';
import {
  CHECKPOINTS,
  DATASETS,
  PICTURES,
  RUN_FILES,
  WEIGHTS,
  soundCheckpoint,
  writeRun,
} from '../support/hostile-files.js';
import { lockstep, start, type Ending } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** A command needs 60 to 110 without any file; headers of 8 MB are read, and a picture is decoded. */
const MAX_PEAK_MB = 320;
const PEAK_MEMORY = pathToFileURL(
  fileURLToPath(new URL('../support/peak-memory.mjs', import.meta.url)),
).href;

/** Runs the program to its end. @returns the most memory that it had, too */
async function measured(args: readonly string[]): Promise<Ending & { readonly peakMb: number }> {
  const file = join(await temporaryDirectory(), 'peak');
  const ending = await lockstep(args, {
    PEAK_MEMORY_FILE: file,
    NODE_OPTIONS: `--import ${PEAK_MEMORY}`,
  });
  return { ...ending, peakMb: Number(await readFile(file, 'utf8')) / 1024 };
}

/** One sentence without control characters, no stack, an exit code that says failure, and little memory. */
function expectRefusal(ending: Awaited<ReturnType<typeof measured>>): void {
  expect(ending.stderr).toMatch(/^lockstep: Cannot [^\p{Cc}]{10,600}\n$/u);
  expect(ending.stderr).not.toContain('not expected');
  expect([1, 2]).toContain(ending.code);
  expect(ending.peakMb).toBeLessThan(MAX_PEAK_MB);
}

describe('a checkpoint', () => {
  test.each(Object.entries(CHECKPOINTS))('with %s is refused', async (_, make) => {
    const path = join(await temporaryDirectory(), 'hostile.safetensors');
    await make(path);
    expectRefusal(await measured(['evaluate', path]));
  });

  test('that says where its dataset is does not have it opened', async () => {
    const path = join(await temporaryDirectory(), 'hostile.safetensors');
    await writeFile(path, soundCheckpoint({ config: { dataset: '/etc\u001b[2J' } }));
    const ending = await measured(['evaluate', path]);
    expectRefusal(ending);
    expect(ending.stderr).toContain('/etc\\u{1b}[2J, a path that is not opened unless you name it');
  });

  test('of any bytes is refused', async () => {
    const dir = await temporaryDirectory();
    const good = soundCheckpoint();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 5,
        }),
        async (changes) => {
          const bytes = Buffer.from(good);
          for (const [at, by] of changes) bytes[at] = (bytes[at] + by) % 256;
          fc.pre(!bytes.equals(good));
          const path = join(dir, 'hostile.safetensors');
          await writeFile(path, bytes);
          expectRefusal(await measured(['evaluate', path]));
        },
      ),
      { numRuns: 2 },
    );
  });
});

test.each(Object.entries(WEIGHTS))('weights with %s are refused', async (_, make) => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'hostile.safetensors');
  await make(path);
  expectRefusal(await measured(['train', '--init', path, '--out', join(dir, 'run')]));
});

test.each(Object.entries(DATASETS))('%s is refused', async (_, [name, make]) => {
  const path = join(await temporaryDirectory(), name);
  await make(path);
  const fraction = name.endsWith('.parquet') ? ['--test-fraction', '0.2'] : [];
  expectRefusal(await measured(['data', path, ...fraction]));
});

test.each(Object.entries(PICTURES))('%s is refused', async (_, make) => {
  const dir = await temporaryDirectory();
  const [model, picture] = [join(dir, 'model.safetensors'), join(dir, 'picture')];
  const input = { channels: 3, height: 28, width: 28 };
  await writeFile(model, soundCheckpoint({ input }));
  await make(picture);
  expectRefusal(await measured(['predict', model, picture]));
});

describe('what is named in a flag', () => {
  test
    .skipIf(process.platform === 'win32')
    .each([
      [['train', '--config', '/dev/zero']],
      [['sweep', '/dev/zero']],
      [['launch', '/dev/zero']],
      [['worker', 'ws://127.0.0.1:9', '--token-file', '/dev/zero']],
      [['doctor', '@/dev/zero']],
      [['evaluate', '/dev/zero']],
      [['data', '/dev/zero']],
    ])('and never ends is refused: %j', async (args) => {
    expectRefusal(await measured(args));
  });

  test('and is deep is refused', async () => {
    const path = join(await temporaryDirectory(), 'deep.json');
    await writeFile(path, `{"epochs": ${'['.repeat(400_000)}${']'.repeat(400_000)}}`);
    expectRefusal(await measured(['train', '--config', path]));
    expectRefusal(await measured(['sweep', path]));
  });
});

describe("a run's directory", () => {
  test.each(Object.entries(RUN_FILES))('with %s is listed', async (_, files) => {
    const dir = await temporaryDirectory();
    await writeRun(join(dir, 'hostile'), files);
    const ending = await measured(['runs', dir]);
    expect(ending, ending.stderr).toMatchObject({ code: 0 });
    expect(ending.stdout).toContain('\nhostile ');
    expect(ending.peakMb).toBeLessThan(MAX_PEAK_MB);
  });

  test.each(Object.entries(RUN_FILES).filter(([, files]) => !('config.json' in files)))(
    'with %s is shown on a board, without its dataset',
    async (_, files) => {
      const dir = await temporaryDirectory();
      await writeRun(join(dir, 'hostile'), files);
      const file = join(dir, 'peak');
      const board = start(['board', join(dir, 'hostile'), '--port', '0'], {
        PEAK_MEMORY_FILE: file,
        NODE_OPTIONS: `--import ${PEAK_MEMORY}`,
      });
      await board.said(/until Ctrl-C/);
      board.kill('SIGTERM');
      await board.ended;
      expect(Number(await readFile(file, 'utf8')) / 1024).toBeLessThan(MAX_PEAK_MB);
    },
  );
});
