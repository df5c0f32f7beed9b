/** Options shared by several commands, and the types of option values. */
import * as z from 'zod';
import type { LogLevel } from '../shared/node/log.js';
import { optionWords } from '../shared/option.js';

const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const satisfies readonly LogLevel[];
export const text = z.string().min(1).max(4096);
export const port = z.number().int().min(0).max(65_535);

export const quiet = z.boolean().default(false).register(optionWords, {
  group: 'output',
  help: 'show only warnings and errors on the console',
});
export const logLevel = z.enum(LOG_LEVELS).default('info').register(optionWords, {
  group: 'output',
  help: 'lowest severity to log',
  value: 'level',
});
export const json = z.boolean().default(false).register(optionWords, {
  group: 'output',
  help: 'print JSON, for scripts',
});
export const host = text.default('127.0.0.1').register(optionWords, {
  group: 'network',
  help: 'address to listen on; 0.0.0.0 for all',
  value: 'address',
});
export const tokenFile = text.optional().register(optionWords, {
  group: 'network',
  help: 'file with the token, instead of --token',
  value: 'file',
  unset: 'none',
});
export const device = z.number().int().min(0).max(64).optional().register(optionWords, {
  group: 'run',
  help: 'which GPU to use, counted from 0',
  value: 'n',
  unset: 'the preferred one',
});

/** A token, which is never shown. */
export function tokenOption(help: string, unset: string) {
  return text
    .optional()
    .register(optionWords, { group: 'network', help, value: 'text', unset, isSecret: true });
}

/** `--config` and `--print-config`, which every command has. */
export const commonOptions = {
  config: text.optional().register(optionWords, {
    group: 'output',
    help: 'JSON file with options, named as in {"batchSize": 128}',
    value: 'file',
    unset: 'none',
  }),
  printConfig: z.boolean().default(false).register(optionWords, {
    group: 'output',
    help: 'print every option, its value and where it came from, then exit',
  }),
};
