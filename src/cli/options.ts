/**
 * The options of every command, and the only place where they are declared: values, defaults and help. Those that affect
 * the bits of a run are in src/shared/config.ts.
 */
import * as z from 'zod';
import { ENGINE_REQUESTS } from '../model/engine/engine.js';
import { EXPORT_FORMATS } from '../model/export/format.js';
import { modelOptions, pictureOptions, runOptions } from '../shared/config.js';
import { formatChoices, optionWords, type OptionShape } from '../shared/option.js';
import { MAX_THREADS } from '../worker/computation.js';
import {
  device,
  host,
  json,
  logLevel,
  port,
  quiet,
  text,
  tokenFile,
  tokenOption,
} from './common-options.js';
import { DEFAULT_PORT, serveOptions } from './serve-options.js';

const engine = z.enum(ENGINE_REQUESTS);
const testImages = text.optional().register(optionWords, {
  group: 'data',
  help: 'mnist, a folder of images, Parquet or IDX files, or an .npz file',
  value: 'name|path',
  unset: 'mnist, for a model trained on it; a path named in a file is never opened',
});

const threads = z.number().int().min(1).max(MAX_THREADS);

const workerOptions = {
  engine: engine.default('auto').register(optionWords, {
    group: 'run',
    help: 'engine that computes the gradients',
    value: 'name',
  }),
  device,
  threads: threads.optional().register(optionWords, {
    group: 'run',
    help: 'compute threads, for the engine simd',
    value: 'n',
    unset: 'one per core, one fewer if the coordinator runs on this machine',
  }),
  maxMemory: z.number().int().min(64).max(1_000_000).default(4096).register(optionWords, {
    group: 'run',
    help: 'refuse a run that would need more memory than this',
    value: 'MB',
  }),
  name: text.max(200).optional().register(optionWords, {
    group: 'run',
    help: 'display name of the worker',
    value: 'text',
    unset: 'the host name',
  }),
  token: tokenOption('secret of the run', 'the one in the join line'),
  tokenFile,
  retryFor: z.number().min(0).max(1e9).optional().register(optionWords, {
    group: 'network',
    help: 'give up after this time without a coordinator',
    value: 'seconds',
    unset: 'never',
  }),
  quiet,
  logLevel,
};

export const COMMAND_OPTIONS = {
  train: {
    workers: z.number().int().min(1).max(256).optional().register(optionWords, {
      group: 'run',
      help: 'local worker processes',
      value: 'n',
      unset: 'one, with threads; for engines other than simd, one per core, at most 8',
    }),
    engine: engine.default('simd').register(optionWords, {
      group: 'run',
      help: 'engine of all local workers',
      value: 'name',
    }),
    threads: threads.optional().register(optionWords, {
      group: 'run',
      help: 'compute threads of each local worker, for the engine simd',
      value: 'n',
      unset: 'one per core, at most 8; 1 with --workers or --engines',
    }),
    engines: z
      .array(engine)
      .min(1)
      .max(256)
      .optional()
      .register(optionWords, {
        group: 'run',
        help: 'engine of each local worker, such as webgpu,simd, instead of --workers and --engine',
        value: 'list',
        unset: 'none',
        expected: `a comma-separated list of engines, each ${formatChoices(ENGINE_REQUESTS)}`,
      }),
    ...runOptions,
    ...serveOptions,
  },
  coordinator: { ...runOptions, ...serveOptions },
  worker: workerOptions,
  launch: {
    engine: engine.default('auto').register(optionWords, {
      group: 'run',
      help: 'engine of workers whose line in the hostfile names none',
      value: 'name',
    }),
    ssh: text.default('ssh').register(optionWords, {
      group: 'network',
      help: 'ssh command with options, such as "ssh -p 2222 -J gateway"',
      value: 'command',
    }),
    program: text.optional().register(optionWords, {
      group: 'network',
      help: 'command that runs lockstep on the other machines',
      value: 'command',
      unset: 'the same path as here',
    }),
    ...runOptions,
    ...serveOptions,
    host: text.default('0.0.0.0').register(optionWords, {
      group: 'network',
      help: 'address to listen on, which workers connect to; 0.0.0.0 for all, with workers using the first',
      value: 'address',
    }),
  },
  ctl: {
    token: tokenOption(
      'the joining token of the run',
      'the one in the run directory or the join line',
    ),
    tokenFile,
  },
  relay: {
    workers: z.number().int().min(0).max(256).default(0).register(optionWords, {
      group: 'run',
      help: 'local worker processes behind the relay',
      value: 'n',
    }),
    approximate: z.boolean().default(false).register(optionWords, {
      group: 'run',
      help: 'also admit approximate engines; the relay then counts as approximate',
    }),
    minWorkers: serveOptions.minWorkers,
    maxWorkers: serveOptions.maxWorkers,
    audit: serveOptions.audit,
    maxMemory: workerOptions.maxMemory,
    name: workerOptions.name,
    host,
    port: port.default(DEFAULT_PORT).register(optionWords, {
      group: 'network',
      help: 'port for workers; 0 for any free one',
      value: 'port',
    }),
    token: tokenOption(
      'secret of the run, which workers of the relay need too',
      'the one in the join line',
    ),
    tokenFile,
    tlsCert: serveOptions.tlsCert,
    tlsKey: serveOptions.tlsKey,
    insecure: serveOptions.insecure,
    retryFor: workerOptions.retryFor,
    out: text.default('relay').register(optionWords, {
      group: 'output',
      help: 'directory for the key and join line, if it listens off loopback',
      value: 'dir',
    }),
    quiet,
    logLevel,
  },
  evaluate: {
    dataset: testImages,
    testFraction: pictureOptions.testFraction,
    badImages: pictureOptions.badImages,
    json,
  },
  predict: { json },
  data: {
    ...pictureOptions,
    badImages: z.enum(['skip', 'fail']).default('skip').register(optionWords, {
      group: 'data',
      help: 'for images: what to do about unreadable files',
      value: 'what',
    }),
    sheet: text.optional().register(optionWords, {
      group: 'output',
      help: 'write a contact sheet with some training images of each class',
      value: 'file.png',
      unset: 'none',
    }),
    json,
  },
  export: {
    format: z
      .array(z.enum(EXPORT_FORMATS))
      .min(1)
      .max(16)
      .default([...EXPORT_FORMATS])
      .register(optionWords, {
        group: 'output',
        help: 'formats to write, comma-separated',
        value: 'list',
        expected: `a comma-separated list of formats, each ${formatChoices(EXPORT_FORMATS)}`,
      }),
    out: text.default('exported').register(optionWords, {
      group: 'output',
      help: 'directory to write to',
      value: 'dir',
    }),
    force: z.boolean().default(false).register(optionWords, {
      group: 'output',
      help: 'overwrite existing files with the same names',
    }),
  },
  sweep: {
    trials: z.number().int().min(1).max(10_000).optional().register(optionWords, {
      group: 'run',
      help: 'trials of a random search',
      value: 'n',
      unset: 'every combination',
    }),
    seed: z.number().int().min(0).max(0xffff_ffff).default(1).register(optionWords, {
      group: 'run',
      help: 'with --trials: seed of the search; the seed of each run is an option in the file',
      value: 'n',
    }),
    out: text.default('sweeps/sweep').register(optionWords, {
      group: 'output',
      help: 'directory of the trials, each of which is a run',
      value: 'dir',
    }),
    json,
  },
  runs: {
    prune: z.boolean().default(false).register(optionWords, {
      group: 'run',
      help: 'list the runs that no rule keeps, and remove them after confirmation',
    }),
    keepBest: z.number().int().min(0).max(10_000).optional().register(optionWords, {
      group: 'run',
      help: 'with --prune: number of best runs to keep for each dataset',
      value: 'n',
      unset: 'none',
    }),
    keepLast: z.number().int().min(0).max(10_000).optional().register(optionWords, {
      group: 'run',
      help: 'with --prune: number of newest runs to keep',
      value: 'n',
      unset: 'none',
    }),
    unfinished: z.boolean().default(false).register(optionWords, {
      group: 'run',
      help: 'with --prune: also remove runs that could be resumed',
    }),
    yes: z.boolean().default(false).register(optionWords, {
      group: 'run',
      help: 'with --prune: do not ask for confirmation',
    }),
    json,
  },
  summary: modelOptions,
  doctor: {
    device,
    json,
    fix: z.boolean().default(false).register(optionWords, {
      group: 'run',
      help: 'install what an engine lacks with npm, then check again',
    }),
    token: tokenOption('secret of the run whose connection is checked', 'the one in the join line'),
    tokenFile,
  },
  bench: {
    workers: z.number().int().min(1).max(256).optional().register(optionWords, {
      group: 'run',
      help: 'workers for step; the maximum for scaling and coordinator',
      value: 'n',
      unset: 'as for train; one per core, at most 8, for scaling; 64 for coordinator',
    }),
    batchSize: z.number().int().min(1).max(60_000).default(128).register(optionWords, {
      group: 'training',
      help: 'images per update, for step and scaling',
      value: 'images',
    }),
    seconds: z.number().gt(0).max(1e6).default(5).register(optionWords, {
      group: 'run',
      help: 'time for each run after warm-up, and for engine',
      value: 'seconds',
    }),
    warmUp: z.number().int().min(1).max(1e6).default(600).register(optionWords, {
      group: 'run',
      help: 'warm-up steps of step and scaling, not measured',
      value: 'steps',
    }),
    rounds: z.number().int().min(1).max(1000).default(3).register(optionWords, {
      group: 'run',
      help: 'rounds of step and scaling, of which the medians are printed',
      value: 'n',
    }),
    json,
  },
  board: {
    host,
    port: port.default(7701).register(optionWords, {
      group: 'network',
      help: 'port to listen on; 0 for any free one',
      value: 'port',
    }),
    allowedHosts: serveOptions.allowedHosts,
    dataset: testImages,
  },
} satisfies Record<string, OptionShape>;

export type CommandName = keyof typeof COMMAND_OPTIONS;
