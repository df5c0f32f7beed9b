/**
 * What the monitor sends to its pages, as JSON: the whole history when a page opens, then changes.
 * Types only; history.ts makes updates, browser/run-store.ts applies them.
 */
import type { EvaluationSet } from '../../shared/protocol.js';
import type { ConfusedPair } from '../../model/evaluation.js';
import type { InputShape } from '../../model/lenet.js';
import type { RunConfig } from '../../shared/config.js';
import type { RunResult, WorkerLost } from '../events.js';

/** Milliseconds since the Unix epoch, on the coordinator's clock. */
type TimeMs = number;
/** Bytes, as base64. */
type Base64 = string;

export interface RunInfo {
  readonly runId: string;
  readonly name: string;
  readonly config: RunConfig;
  readonly input: InputShape;
  /** (numClasses,) */
  readonly classNames: readonly string[];
  readonly numParams: number;
  readonly numTrain: number;
  readonly numValidation: number;
  readonly numTest: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  readonly startedAt: TimeMs;
  /** When the process that is at work began, and how long those before it had worked. */
  readonly resumedAt: TimeMs;
  readonly secondsBefore: number;
  readonly isResumed: boolean;
}

export interface EvaluationRow {
  readonly set: EvaluationSet;
  readonly globalStep: number;
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  /** Since the start of the run. */
  readonly seconds: number;
}

export interface WorkerRow {
  readonly workerId: string;
  readonly name: string;
  readonly host: string;
  readonly engine: string;
  readonly device: string;
  readonly isExact: boolean;
  /** `left` if it said goodbye, `lost` if it did not. */
  readonly state: 'here' | 'left' | 'lost';
  readonly joinedAt: TimeMs;
  /** Last sign of life. */
  readonly lastSeenAt: TimeMs;
  readonly lostInPhase: WorkerLost['phase'] | null;
  /** Fraction of the images of the last second or so. */
  readonly share: number;
  /** Over the same time, on the coordinator's clock. */
  readonly imagesPerSecond: number;
  /** Mean compute time per step, over the same time. */
  readonly computeMs: number;
  /** Of the last ping; null before the first. */
  readonly roundTripMs: number | null;
  /** Whether the page of a worker in a browser is out of sight; null for other workers. */
  readonly isHidden: boolean | null;
  /** Since it first joined. */
  readonly numImages: number;
  /** When it was connected; the oldest are forgotten. */
  readonly stays: readonly Stay[];
}

export interface Stay {
  readonly from: TimeMs;
  /** Null while it is connected. */
  readonly to: TimeMs | null;
  /** Whether it went without saying goodbye. */
  readonly wasLost: boolean;
}

export interface EventRow {
  readonly time: TimeMs;
  readonly kind: 'run' | 'joined' | 'lost' | 'checkpoint' | 'notice';
  readonly level: 'info' | 'warn' | 'error';
  /** Updates made before it. */
  readonly globalStep: number;
  readonly message: string;
}

/** The filters of the first convolution at one moment. */
export interface FilterFrame {
  /** Updates made before it. */
  readonly globalStep: number;
  /** (numFilters, C, K, K) float32, little-endian. */
  readonly weights: Base64;
}

export interface Filters {
  readonly numFilters: number;
  readonly channels: number;
  readonly kernelSize: number;
  /** Frames are kept for steps divisible by it; doubles as the run grows. */
  readonly interval: number;
  readonly current: FilterFrame;
  /** All that are kept or, in a delta, those since the last update. */
  readonly frames: readonly FilterFrame[];
}

/** Where the last evaluation went wrong. */
export interface Confusion {
  readonly set: EvaluationSet;
  readonly globalStep: number;
  readonly numImages: number;
  /** Neighbouring classes that share a row and a column of `counts`: 1 unless there are many classes. */
  readonly classesPerCell: number;
  /** (side, side) images by label (rows) and prediction (columns), side = ⌈numClasses / classesPerCell⌉. */
  readonly counts: readonly number[];
  /** (numClasses,) */
  readonly numByLabel: readonly number[];
  /** (numClasses,) correct predictions by label. */
  readonly numRight: readonly number[];
  /** The most frequent confusions; the rest are left out. */
  readonly pairs: readonly ConfusedPair[];
}

export interface Mistake {
  /** Position in the evaluated set. */
  readonly index: number;
  readonly label: number;
  readonly predicted: number;
  /** Probability of the predicted class. */
  readonly confidence: number;
  /** (C, H, W) bytes; null if the images are too large to send to every page. */
  readonly image: Base64 | null;
}

export interface Mistakes {
  readonly globalStep: number;
  /** All mistakes of the evaluation; `worst` has only some of them. */
  readonly numMistakes: number;
  /** Most confident first. */
  readonly worst: readonly Mistake[];
}

export interface Points {
  readonly stride: number;
  readonly numPoints: number;
  readonly cells: Base64;
}

export type RunState = 'starting' | 'waiting' | 'training' | 'paused' | 'finished';

/** What can be done with the run. */
export interface Capabilities {
  /** Whether `api/predict` answers. */
  readonly canPredict: boolean;
  /** False if the run is shown from its files. */
  readonly isLive: boolean;
  /** Whether `api/work-link` answers; omitted if the run is shown from its files. */
  readonly takesBrowsers?: boolean;
}

export interface Update extends Capabilities {
  /** On the monitor's clock, to compute ages. */
  readonly now: TimeMs;
  readonly state: RunState;
  /** Updates made. */
  readonly globalStep: number;
  readonly run?: RunInfo;
  readonly points?: Points;
  /** In chronological order; a delta has only the new ones. */
  readonly evaluations?: readonly EvaluationRow[];
  /** The oldest are forgotten; a delta has only the new ones. */
  readonly events?: readonly EventRow[];
  /** All workers. */
  readonly workers?: readonly WorkerRow[];
  readonly filters?: Filters;
  readonly confusion?: Confusion;
  readonly mistakes?: Mistakes;
  readonly result?: RunResult;
}
