/**
 * A hostfile: the machines on which `lockstep launch` starts workers, one per line.
 *
 *   anna                       a worker
 *   bert workers=2             two
 *   me@gpu1 gpus=8             one per GPU, 0 to 7
 *   carl threads=4             one that computes on 4 threads
 *   gpu2 gpus=2 engine=webgpu  # a comment
 */
import { ENGINE_REQUESTS } from '../model/engine/engine.js';
import { UserError } from '../shared/errors.js';
import { formatChoices, shorten } from '../shared/option.js';

/** Where one worker is to run. */
export interface WorkerPlace {
  /** As ssh takes it: a name, an address, `user@name`, or a host of its configuration. */
  readonly host: string;
  /** Of the worker: the host's, with a number where there are several. */
  readonly name: string;
  /** GPU, counted from 0; null for the one that the engine prefers. */
  readonly device: number | null;
  readonly engine: string | null;
  /** Null for the default, all cores. */
  readonly threads: number | null;
}

/** Nothing that a shell or ssh could take for something else; an address of IPv6 has colons. */
const HOST = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}@)?([A-Za-z0-9_][A-Za-z0-9._:%-]{0,253})$/;
const MAX_ON_HOST = 64;
const MAX_PLACES = 1000;

/**
 * @param source what to call the text in messages: the path of the file
 * @throws {UserError} naming the first line that is wrong
 */
export function parseHostfile(text: string, source: string): WorkerPlace[] {
  const places: WorkerPlace[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const [host, ...words] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (host === '') continue;
    const refuse = (what: string) =>
      new UserError(`Cannot launch on line ${index + 1} of ${source}: ${what}`);
    const name = HOST.exec(host)?.[1];
    if (name === undefined) {
      throw refuse(`"${shorten(host)}" is no host; expected a name such as anna or me@10.0.0.5`);
    }
    const { gpus, workers, threads, engine } = settingsOf(words, refuse);
    const count = gpus ?? workers ?? 1;
    for (let i = 0; i < count; i++) {
      places.push({
        host,
        name: count === 1 ? name : `${name}-${i}`,
        device: gpus === null ? null : i,
        engine,
        // Several on one machine would each take all of its cores.
        threads: threads ?? (count > 1 ? 1 : null),
      });
    }
  }
  if (places.length === 0) throw new UserError(`Cannot launch: ${source} names no host`);
  if (places.length > MAX_PLACES) {
    throw new UserError(
      `Cannot launch ${places.length} workers: expected at most ${MAX_PLACES} in ${source}`,
    );
  }
  return places;
}

function settingsOf(words: readonly string[], refuse: (what: string) => UserError) {
  const found: Record<'gpus' | 'workers' | 'threads', number | null> = {
    gpus: null,
    workers: null,
    threads: null,
  };
  let engine: string | null = null;
  for (const word of words) {
    const [key, value = ''] = word.split('=', 2);
    if (key === 'engine') {
      if (!(ENGINE_REQUESTS as readonly string[]).includes(value)) {
        throw refuse(`no engine "${shorten(value)}"; expected ${formatChoices(ENGINE_REQUESTS)}`);
      }
      engine = value;
    } else if (key === 'gpus' || key === 'workers' || key === 'threads') {
      const count = Number(value);
      if (!/^\d{1,3}$/.test(value) || count < 1 || count > MAX_ON_HOST) {
        throw refuse(
          `${key} is "${shorten(value)}"; expected a whole number from 1 to ${MAX_ON_HOST}`,
        );
      }
      found[key] = count;
    } else {
      throw refuse(
        `"${shorten(word)}" is unknown; expected gpus=N, workers=N, threads=N or engine=NAME`,
      );
    }
  }
  if (found.gpus !== null && found.workers !== null) {
    throw refuse('gpus and workers exclude each other: each GPU gets one worker');
  }
  return { ...found, engine };
}
