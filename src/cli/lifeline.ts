/**
 * The stdin of a worker that `lockstep launch` started on another machine. Its first line is the secret of the run, which
 * no process list shows; after that it carries a heartbeat. When it ends, or is silent for too long, no one is left to end
 * the worker, so it ends itself.
 */
import type { Readable } from 'node:stream';
import { UserError } from '../shared/errors.js';

/** Between two beats. */
export const BEAT_MS = 5_000;
/** Several beats: a link that was cut without a word ends no stream. */
const SILENCE_MS = 30_000;
const MAX_LINE_CHARS = 4096;
/** For saying goodbye, ms. */
const END_WITHIN_MS = 5_000;

export interface Lifeline {
  readonly firstLine: string;
  readonly cut: AbortSignal;
}

/** @throws {UserError} if there is no line within the time of some beats */
export async function holdLifeline(stdin: Readable): Promise<Lifeline> {
  const cut = new AbortController();
  const end = () => {
    if (cut.signal.aborted) return;
    cut.abort();
    // Looking for engines cannot be cut short.
    setTimeout(() => process.exit(1), END_WITHIN_MS).unref();
  };
  const silence = setTimeout(end, SILENCE_MS);
  let text: string | null = '';
  const firstLine = await new Promise<string>((resolve, reject) => {
    const fail = () =>
      reject(new UserError('Cannot join: expected the URL of a run as the first line of stdin'));
    cut.signal.addEventListener('abort', fail, { once: true });
    stdin.setEncoding('utf8');
    stdin.on('data', (chunk: string) => {
      silence.refresh();
      if (text === null) return;
      text += chunk;
      const length = text.indexOf('\n');
      if (length < 0 && text.length <= MAX_LINE_CHARS) return;
      if (length < 0) fail();
      else resolve(text.slice(0, length));
      // Whatever follows is a beat.
      text = null;
    });
    stdin.once('end', end);
    stdin.once('error', end);
  });
  return { firstLine, cut: cut.signal };
}
