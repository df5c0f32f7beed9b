/**
 * The workers that took part in a run, over all its processes: as many as fit into a checkpoint's header, the rest summed up.
 */
import * as z from 'zod';
import type { WorkerJoined } from './events.js';

/** Workers listed by name; more than --max-workers allows at a time. Beyond, those who did least become a sum. */
export const MAX_PARTICIPANTS = 1024;

const count = z.number().int().min(0);

/** A worker that took part in a run; `numImages` are training images. */
export const participantSchema = z.object({
  workerId: z.string(),
  name: z.string(),
  engine: z.string(),
  device: z.string(),
  isExact: z.boolean(),
  numImages: count,
});
export type Participant = z.infer<typeof participantSchema>;

/** What of it a checkpoint holds. */
export const participantsShape = {
  workers: z.array(participantSchema).max(MAX_PARTICIPANTS).readonly(),
  /** Who is not listed. */
  otherWorkers: z
    .strictObject({ numWorkers: count, numImages: count })
    .default({ numWorkers: 0, numImages: 0 }),
  /** Whether what an approximate worker said has counted. Unknown in checkpoints of 0.1. */
  isApproximate: z.boolean().optional(),
};
type Stored = z.infer<z.ZodObject<typeof participantsShape>>;

export class Participants {
  /** By workerId, in the order of their first coming. */
  private readonly workers: Map<string, Participant>;
  private others: Stored['otherWorkers'];
  private isApproximate: boolean;
  private total: number;

  constructor({ workers, otherWorkers, isApproximate }: Stored) {
    this.workers = new Map(workers.map((worker) => [worker.workerId, worker]));
    this.others = otherWorkers;
    this.isApproximate = isApproximate ?? workers.some(({ isExact }) => !isExact);
    this.total = workers.reduce((sum, { numImages }) => sum + numImages, otherWorkers.numImages);
  }

  /** A worker is there, for the first time or again. */
  joined({ workerId, name, engine, device, isExact }: WorkerJoined): void {
    const numImages = this.workers.get(workerId)?.numImages ?? 0;
    this.workers.set(workerId, { workerId, name, engine, device, isExact, numImages });
    if (this.workers.size <= MAX_PARTICIPANTS) return;
    const least = [...this.workers.values()]
      .filter((worker) => worker.workerId !== workerId)
      .reduce((a, b) => (b.numImages < a.numImages ? b : a));
    this.workers.delete(least.workerId);
    this.others = {
      numWorkers: this.others.numWorkers + 1,
      numImages: this.others.numImages + least.numImages,
    };
  }

  /** The gradient of that many of its training images was used. */
  credit(workerId: string, numImages: number): void {
    this.total += numImages;
    const worker = this.workers.get(workerId);
    if (worker) {
      this.workers.set(workerId, { ...worker, numImages: worker.numImages + numImages });
    } else {
      this.others = { ...this.others, numImages: this.others.numImages + numImages };
    }
  }

  /** Training images of all. */
  get numImages(): number {
    return this.total;
  }

  /** Training images of one; 0 if it is not listed. */
  imagesOf(workerId: string): number {
    return this.workers.get(workerId)?.numImages ?? 0;
  }

  /** What an approximate worker said has counted, unconfirmed. */
  noteApproximate(): void {
    this.isApproximate = true;
  }

  /** Whether the exact engine's bits are all that counted. */
  get isReproducible(): boolean {
    return !this.isApproximate;
  }

  /** By id. */
  list(): readonly Participant[] {
    return [...this.workers.values()];
  }

  store(): Stored {
    const { others: otherWorkers, isApproximate } = this;
    return { workers: this.list(), otherWorkers, isApproximate };
  }
}
