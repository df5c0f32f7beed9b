/** The workers of a run for its pages, in bounded memory: identity, presence, speed. */
import type { StepDone, WorkerJoined, WorkerLost, WorkerPinged } from '../events.js';
import type { WorkerRow } from './update.js';

/** Workers remembered; those gone longest are forgotten first. */
const MAX_WORKERS = 256;
/** Stays remembered per worker; the page gets all of them with each change. */
const MAX_STAYS = 16;
/** Total time of the steps that workers' shares and rates are averaged over. */
const WINDOW_MS = 1000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface WorkerEntry {
  readonly row: Mutable<WorkerRow>;
  /** In the current window. */
  images: number;
  computeMs: number;
  steps: number;
}

export class WorkerHistory {
  private readonly workers = new Map<string, WorkerEntry>();
  private windowMs = 0;
  private windowImages = 0;

  rows(): WorkerRow[] {
    return [...this.workers.values()].map(({ row }) => row);
  }

  joined({ workerId, name, host, engine, device, isExact, time }: WorkerJoined): void {
    const known = this.workers.get(workerId)?.row;
    const stay = { from: time, to: null, wasLost: false };
    this.workers.set(workerId, {
      images: 0,
      computeMs: 0,
      steps: 0,
      row: {
        workerId,
        name,
        host,
        engine,
        device,
        isExact,
        state: 'here',
        joinedAt: time,
        lastSeenAt: time,
        lostInPhase: null,
        share: 0,
        imagesPerSecond: 0,
        computeMs: 0,
        roundTripMs: null,
        isHidden: null,
        numImages: known?.numImages ?? 0,
        stays: [...(known?.stays ?? []), stay].slice(-MAX_STAYS),
      },
    });
    this.forget();
  }

  lost({ workerId, isGraceful, lastSeen, phase, time }: WorkerLost): void {
    const row = this.workers.get(workerId)?.row;
    if (!row) return;
    row.state = isGraceful ? 'left' : 'lost';
    row.lastSeenAt = lastSeen;
    row.lostInPhase = isGraceful ? null : phase;
    row.share = row.imagesPerSecond = 0;
    row.stays = row.stays.map((stay) =>
      stay.to === null ? { ...stay, to: time, wasLost: !isGraceful } : stay,
    );
  }

  /** @returns whether the worker is known */
  pinged({ workerId, roundTripMs, numWorkers, isHidden, time }: WorkerPinged): boolean {
    const row = this.workers.get(workerId)?.row;
    if (!row) return false;
    row.roundTripMs = roundTripMs;
    if (numWorkers !== undefined) row.engine = `relay of ${numWorkers}`;
    row.isHidden = isHidden;
    row.lastSeenAt = time;
    return true;
  }

  /** @returns whether a window ended with this step, so that there are new rates and shares */
  step({ workers, numImages, times, time }: StepDone): boolean {
    for (const share of workers) {
      const entry = this.workers.get(share.workerId);
      if (!entry) continue;
      entry.images += share.numImages;
      entry.computeMs += share.computeMs;
      entry.steps += 1;
      entry.row.numImages += share.numImages;
      entry.row.lastSeenAt = time;
    }
    this.windowImages += numImages;
    this.windowMs += times.totalMs;
    if (this.windowMs < WINDOW_MS) return false;
    this.closeWindow();
    return true;
  }

  private closeWindow(): void {
    const seconds = this.windowMs / 1000;
    for (const entry of this.workers.values()) {
      const { row, images, computeMs, steps } = entry;
      row.imagesPerSecond = images / seconds;
      row.share = this.windowImages > 0 ? images / this.windowImages : 0;
      row.computeMs = steps > 0 ? computeMs / steps : 0;
      entry.images = entry.computeMs = entry.steps = 0;
    }
    this.windowMs = this.windowImages = 0;
  }

  private forget(): void {
    if (this.workers.size <= MAX_WORKERS) return;
    const gone = this.rows().filter(({ state }) => state !== 'here');
    gone.sort((a, b) => a.lastSeenAt - b.lastSeenAt);
    const [oldest] = gone.length > 0 ? gone : this.rows();
    this.workers.delete(oldest.workerId);
  }
}
