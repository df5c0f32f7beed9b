/**
 * The open pages: Server-Sent Events, batched, each batch encoded once for all.
 *
 * A new page waits for the next batch, then gets the whole history, and from then on only changes. So no page misses an event
 * or gets one twice, and however many connect at once, everything is encoded once.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
import type { ServerResponse } from 'node:http';
import type { Clock, Timer } from '../../shared/clock.js';
import { DEADLINES } from '../../shared/deadlines.js';
import type { Update } from './update.js';

/** Interval between batches: short enough to look live, at half the cost of four batches per second. */
const BATCH_MS = 500;
/** How far a page may lag behind before it is disconnected; it reconnects by itself and starts afresh. */
const MAX_LAG_BYTES = 4 * 1024 * 1024;
const MAX_PAGES = 64;

/** Where updates come from. */
export interface UpdateSource {
  readonly hasChanges: boolean;
  snapshot(now: number): Update;
  takeDelta(now: number): Update;
}

export class EventStream {
  private readonly source: UpdateSource;
  private readonly clock: Clock;
  private readonly pages = new Set<ServerResponse>();
  private waiting: ServerResponse[] = [];
  private timer: Timer | null = null;
  private keepAlive: Timer | null = null;
  private sentAt = 0;

  constructor(source: UpdateSource, clock: Clock) {
    this.source = source;
    this.clock = clock;
  }

  /** Number of open pages. */
  get size(): number {
    return this.pages.size + this.waiting.length;
  }

  /** Takes over a response whose security headers are set. @returns false if too many pages are open */
  add(response: ServerResponse): boolean {
    if (this.size >= MAX_PAGES) return false;
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      // Proxies such as nginx would buffer events.
      'X-Accel-Buffering': 'no',
    });
    response.flushHeaders();
    response.on('close', () => this.drop(response));
    response.on('error', () => this.drop(response));
    this.waiting.push(response);
    this.schedule();
    return true;
  }

  /** Call this when the source has changed. */
  changed(): void {
    if (this.size > 0) this.schedule();
  }

  /** Sends every page what is pending, and ends its stream. */
  close(): void {
    this.timer?.cancel();
    this.keepAlive?.cancel();
    this.timer = this.keepAlive = null;
    if (this.size === 0) return;
    this.flush();
    for (const response of this.pages) response.end();
    this.pages.clear();
  }

  private schedule(): void {
    const delayMs = Math.max(0, this.sentAt + BATCH_MS - this.clock.now());
    this.timer ??= this.clock.schedule(delayMs, () => this.flush());
  }

  private flush(): void {
    this.timer?.cancel();
    this.timer = null;
    const now = (this.sentAt = this.clock.now());
    if (this.source.hasChanges) {
      const delta = this.source.takeDelta(now);
      if (this.pages.size > 0) this.send(this.pages, frame('delta', delta));
    }
    if (this.waiting.length > 0) {
      const newcomers = this.waiting;
      this.waiting = [];
      for (const response of newcomers) this.pages.add(response);
      this.send(newcomers, frame('history', this.source.snapshot(now)));
    }
    this.keepAlive?.cancel();
    this.keepAlive =
      this.pages.size > 0
        ? this.clock.schedule(DEADLINES.streamKeepAliveMs, () => {
            // An event, as a page does not hear of comments.
            this.send(this.pages, Buffer.from('event: alive\ndata: {}\n\n'));
            this.flush();
          })
        : null;
  }

  private send(responses: Iterable<ServerResponse>, bytes: Buffer): void {
    for (const response of responses) {
      if (response.writableLength > MAX_LAG_BYTES) {
        response.destroy();
        continue;
      }
      response.write(bytes);
    }
  }

  private drop(response: ServerResponse): void {
    this.pages.delete(response);
    this.waiting = this.waiting.filter((other) => other !== response);
    if (this.size > 0) return;
    this.timer?.cancel();
    this.keepAlive?.cancel();
    this.timer = this.keepAlive = null;
  }
}

function frame(event: string, update: Update): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${JSON.stringify(update)}\n\n`);
}
