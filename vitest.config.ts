import { defineConfig } from 'vitest/config';

const INTEGRATION = 'test/integration/**/*.test.ts';
/** Of those, files in which nothing depends on how busy the machine is. */
const PATIENT = [
  'commands',
  'export',
  'hostile-files',
  'init',
  'library',
  'pictures',
  'tutorial',
].map((name) => `test/integration/${name}.test.ts`);

export default defineConfig({
  test: {
    globalSetup: 'test/support/build.ts',
    // Vitest itself would leave a core free, of two as of many.
    maxWorkers: '100%',
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [INTEGRATION],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'commands',
          include: PATIENT,
          testTimeout: 180_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        // Real processes, with clocks running: one file at a time, when nothing else competes for the processors.
        test: {
          name: 'integration',
          include: [INTEGRATION],
          exclude: PATIENT,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
