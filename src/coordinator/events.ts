/**
 * The events of a run for its observers: the console, metrics.jsonl, TensorBoard, Prometheus, the page, the trace.
 * The coordinator calls each observer with each event, in order; observers must not block, throw or change anything.
 */
import type { EvaluationSet, Range } from '../shared/protocol.js';
import type { InputShape } from '../model/lenet.js';
import type { RunConfig } from '../shared/config.js';

/** Milliseconds since the Unix epoch, with a fraction, by the coordinator's clock. */
type TimeMs = number;

export interface RunStarted {
  readonly type: 'started';
  readonly time: TimeMs;
  readonly runId: string;
  /** Name of the run directory. */
  readonly name: string;
  readonly config: RunConfig;
  /** Of every image. */
  readonly input: InputShape;
  /** (numClasses,) */
  readonly classNames: readonly string[];
  readonly numParams: number;
  readonly numTrain: number;
  readonly numValidation: number;
  readonly numTest: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** First step to come: 0, or that of the checkpoint. */
  readonly globalStep: number;
  readonly isResumed: boolean;
  /** How long the processes before this one worked. */
  readonly secondsBefore: number;
  /** θ (P,) before the first step to come; valid during the call only. Null where the run is read from its files. */
  readonly params: Float32Array | null;
}

/** Where the time of one step went, in ms on the coordinator's clock; the parts add up to `totalMs`. */
export interface StepTimes {
  readonly totalMs: number;
  /** Cutting the batch and sharing it out, with encoding the messages. */
  readonly planMs: number;
  /** Handing the messages to the sockets. */
  readonly broadcastMs: number;
  /** Until the last partial was there, as far as its worker computed. */
  readonly computeMs: number;
  /** The rest of that wait: frames on their way, decoding, waiting for a processor. */
  readonly wireMs: number;
  readonly reduceMs: number;
  readonly updateMs: number;
  /** Before the step: waiting for workers. */
  readonly waitMs: number;
}

/** What one worker did in one step. */
export interface WorkerShare {
  readonly workerId: string;
  readonly name: string;
  /** Micro-batches whose gradient the step used. */
  readonly numMicroBatches: number;
  readonly numImages: number;
  readonly computeMs: number;
  /** From the step message handed over to the last partial received, ms. */
  readonly roundTripMs: number;
}

/** One partial as it was computed, on the coordinator's clock (worker's clock less the estimated offset). */
export interface PartialTrace {
  readonly workerId: string;
  readonly range: Range;
  readonly startedAt: TimeMs;
  readonly computeMs: number;
  readonly receivedAt: TimeMs;
  readonly wasUsed: boolean;
}

export interface StepDone {
  readonly type: 'step';
  /** When the step was done. */
  readonly time: TimeMs;
  /** Of the step just done; `globalStep + 1` updates are made now. */
  readonly globalStep: number;
  readonly epoch: number;
  readonly numImages: number;
  /** Mean cross-entropy of the batch before the update. */
  readonly loss: number;
  /** Fraction of the batch that was classified right. */
  readonly accuracy: number;
  readonly learningRate: number;
  readonly worldSize: number;
  readonly times: StepTimes;
  readonly workers: readonly WorkerShare[];
  /** By workerId: bytes waiting to be sent to a worker; workers with none are left out. */
  readonly queuedBytes: ReadonlyMap<string, number>;
  /** When the step began, and each partial that came. */
  readonly startedAt: TimeMs;
  readonly partials: readonly PartialTrace[];
  /** θ (P,) after the update; valid during the call only. */
  readonly params: Float32Array;
}

export interface EvaluationDone {
  readonly type: 'evaluation';
  readonly time: TimeMs;
  readonly set: EvaluationSet;
  /** Updates made before it. */
  readonly globalStep: number;
  /** Epochs finished, or begun when it was made in mid-epoch. */
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly seconds: number;
  readonly numImages: number;
  /** (n,) each; valid forever, not to be changed. */
  readonly predictions: Uint16Array;
  readonly labels: Uint16Array;
  /** (n, C, H, W) the images; valid forever, not to be changed. */
  readonly images: Uint8Array;
  /** θ (P,); valid during the call only. */
  readonly params: Float32Array;
}

export interface WorkerJoined {
  readonly type: 'workerJoined';
  readonly time: TimeMs;
  readonly workerId: string;
  readonly name: string;
  readonly host: string;
  readonly engine: string;
  readonly device: string;
  readonly isExact: boolean;
  readonly worldSize: number;
  /** True when this worker was here before. */
  readonly isReturn: boolean;
}

export interface WorkerLost {
  readonly type: 'workerLost';
  readonly time: TimeMs;
  readonly workerId: string;
  readonly name: string;
  readonly worldSize: number;
  /** True for a worker that said `leave`, or was told that the run is over. */
  readonly isGraceful: boolean;
  /** What it was doing. */
  readonly phase: 'waiting' | 'computing' | 'sending';
  /** Since when nothing was heard from it. */
  readonly lastSeen: TimeMs;
  /** One sentence: who, in which phase, and what was done about its work. */
  readonly message: string;
}

/** A round trip to a worker, measured by a ping. */
export interface WorkerPinged {
  readonly type: 'workerPinged';
  readonly time: TimeMs;
  readonly workerId: string;
  readonly roundTripMs: number;
  /** Worker's clock less the coordinator's, estimated over the best pings, ms. */
  readonly clockOffsetMs: number;
  /** Workers behind it, where it is a relay. */
  readonly numWorkers?: number;
  /** Whether the page of a worker in a browser is out of sight; null for other workers. */
  readonly isHidden: boolean | null;
}

export interface CheckpointDone {
  readonly type: 'checkpoint';
  readonly time: TimeMs;
  /** Updates that are in it. */
  readonly globalStep: number;
  readonly path: string;
  readonly bytes: number;
  readonly seconds: number;
}

/** The run is paused until told to resume, or has resumed. */
export interface RunPaused {
  readonly type: 'paused';
  readonly time: TimeMs;
  readonly isPaused: boolean;
  /** Updates made. */
  readonly globalStep: number;
}

/** No step is made until there are enough workers. */
export interface RunWaiting {
  readonly type: 'waiting';
  readonly time: TimeMs;
  readonly numActive: number;
  readonly minWorkers: number;
}

/** Something to tell a person, not covered by another event: waiting for workers, a disk that is full. */
export interface Notice {
  readonly type: 'notice';
  readonly time: TimeMs;
  readonly level: 'info' | 'warn' | 'error';
  readonly message: string;
}

/** What went wrong and was put right, or was done for nothing. */
export const FAULT_KINDS = [
  'workersLost',
  'badNumbers',
  'auditsFailed',
  'checkpointFailures',
  'staleAnswers',
  'duplicatePartials',
  'duplicateEvaluations',
  'audits',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** How a run ended: after its last epoch; as an evaluation reached its target; for want of a better one; to be resumed. */
export const OUTCOMES = ['finished', 'targetReached', 'stoppedEarly', 'stopped'] as const;

/** The evaluation that the best checkpoint is of. */
export interface BestEvaluation {
  /** The validation set, if the run has one: figures on it flatter the model that they chose. */
  readonly set: EvaluationSet;
  readonly accuracy: number;
  readonly globalStep: number;
}

export interface RunResult {
  readonly outcome: (typeof OUTCOMES)[number];
  /** Of the last evaluation on the test set; null if there was none. */
  readonly testAccuracy: number | null;
  readonly testLoss: number | null;
  /** Null if nothing was evaluated. */
  readonly best: BestEvaluation | null;
  /** SHA-256 of θ's little-endian bytes, hex. */
  readonly weightsSha256: string;
  readonly globalStep: number;
  /** Epochs finished. */
  readonly epochs: number;
  /** Training images a second, over the time spent in steps. */
  readonly imagesPerSecond: number;
  /** Of all processes that worked on the run, without work that was lost and done again. */
  readonly seconds: number;
  /** Workers that took part, by id; of more than a thousand those that did most. */
  readonly workers: readonly {
    readonly workerId: string;
    readonly name: string;
    readonly engine: string;
    readonly device: string;
    readonly isExact: boolean;
    readonly numImages: number;
  }[];
  /** False as soon as what an approximate engine computed has counted, and before the first step. */
  readonly reproducible: boolean;
  /** Of the exact engine; null if none took part. */
  readonly engineFingerprint: string | null;
  /** How often each has happened; kinds that did not are left out. */
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
}

export interface RunFinished {
  readonly type: 'finished';
  readonly time: TimeMs;
  readonly result: RunResult;
}

export type RunEvent =
  | RunStarted
  | StepDone
  | EvaluationDone
  | WorkerJoined
  | WorkerLost
  | WorkerPinged
  | CheckpointDone
  | RunPaused
  | RunWaiting
  | Notice
  | RunFinished;

export type Observer = (event: RunEvent) => void;
