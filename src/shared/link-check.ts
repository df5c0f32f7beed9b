/**
 * The coordinator's side of a connection check before joining (`lockstep doctor URL`), over HTTP with the joining token:
 *
 *   GET  /api/link          a description of the run, as JSON
 *   GET  /api/link?bytes=N  N zero bytes
 *   POST /api/link          takes the bytes and answers as the first
 */
import * as z from 'zod';
import { hyperparametersSchema, inputShapeSchema } from './config.js';

export const LINK_CHECK_PATH = '/api/link';
/** What a relay answers to everything but its health. */
export const RELAY_ANSWER = 'This is a relay: ask the coordinator behind it\n';
/** Of bytes in one request, either way. */
export const MAX_LINK_CHECK_BYTES = 4 * 1024 * 1024;

const count = z.number().int().min(0).max(1e9);

/** Bounded, as a coordinator is not trusted either. */
export const linkDescriptionSchema = z.object({
  /** Of Lockstep there. */
  version: z.string().max(64),
  protocolVersion: count,
  /** By its clock, ms since 1970. */
  time: z.number(),
  numWorkers: count,
  batchSize: count.min(1),
  microBatch: z.number().int().min(1).max(4096),
  hyperparameters: hyperparametersSchema,
  input: inputShapeSchema,
  numClasses: z.number().int().min(2).max(1000),
});

export type LinkDescription = z.infer<typeof linkDescriptionSchema>;

/** A link to a coordinator, and an engine, as they were measured. */
export interface Prospect {
  /** Of a model: parameters. */
  readonly numParams: number;
  readonly batchSize: number;
  readonly microBatch: number;
  /** Workers that are there already. */
  readonly numWorkers: number;
  /** Of the engine alone. */
  readonly imagesPerSecond: number;
  readonly roundTripMs: number;
  readonly downBytesPerSecond: number;
  readonly upBytesPerSecond: number;
}

/**
 * What a worker makes of an even share of each batch: the parameters come down, the share is computed, one sum goes up.
 *
 * @returns images/s, and the part of a step that the wire takes, 0 to 1
 */
export function prospectsOf(prospect: Prospect): {
  readonly imagesPerSecond: number;
  readonly wireShare: number;
} {
  const { batchSize, microBatch, numWorkers, roundTripMs } = prospect;
  const numMicroBatches = Math.ceil(batchSize / microBatch);
  const share = Math.min(
    batchSize,
    microBatch * Math.max(1, Math.round(numMicroBatches / (numWorkers + 1))),
  );
  const computeS = share / prospect.imagesPerSecond;
  const numBytes = 4 * prospect.numParams;
  const wireS =
    roundTripMs / 1000 +
    numBytes / prospect.downBytesPerSecond +
    numBytes / prospect.upBytesPerSecond;
  return {
    imagesPerSecond: share / (computeS + wireS),
    wireShare: wireS / (computeS + wireS),
  };
}
