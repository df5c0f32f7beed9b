/**
 * What the monitor sends to its pages, as JSON: the whole history when a page opens, then changes.
 * Types only; history.ts makes updates, browser/run-store.ts applies them.
 */
import type { EvaluationSet } from '../../shared/protocol.js';
import type { ConfusedPair } from '../../model/evaluation.js';
import type { InputShape } from '../../model/lenet.js';
import type { RunConfig } from '../../shared/config.js';
import type { RunResult, WorkerLost } from '../events.js';

/** Milliseconds since the Unix epoch, by the coordinator's clock. */
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
  readonly isResumed: boolean;
}

export interface EvaluationRow {
  readonly set: EvaluationSet;
  readonly globalStep: number;
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  /** Since the run began. */
  readonly seconds: number;
}

export interface WorkerRow {
  readonly workerId: string;
  readonly name: string;
  readonly host: string;
  readonly engine: string;
  readonly device: string;
  readonly isExact: boolean;
  /** `left` said goodbye, `lost` did not. */
  readonly state: 'here' | 'left' | 'lost';
  readonly joinedAt: TimeMs;
  /** Last sign of life. */
  readonly lastSeenAt: TimeMs;
  readonly lostInPhase: WorkerLost['phase'] | null;
  /** Fraction of the images of the last second or so. */
  readonly share: number;
  /** Images of that time, by the coordinator's clock. */
  readonly imagesPerSecond: number;
  /** Mean time that it computed in a step, over that time. */
  readonly computeMs: number;
  /** Of the last ping; null before the first. */
  readonly roundTripMs: number | null;
  /** Whether the page of a worker in a browser is out of sight; null for other workers. */
  readonly isHidden: boolean | null;
  /** Since it joined first. */
  readonly numImages: number;
  /** When it was here; the oldest are forgotten. */
  readonly stays: readonly Stay[];
}

export interface Stay {
  readonly from: TimeMs;
  /** Null while it is here. */
  readonly to: TimeMs | null;
  /** Whether it went without a goodbye. */
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
  /** Frames are kept of steps that are divisible by it; doubles as the run grows. */
  readonly interval: number;
  /** As they are now. */
  readonly current: FilterFrame;
  /** All that are kept, or (in a delta) what came since the last update. */
  readonly frames: readonly FilterFrame[];
}

/** Where the last evaluation went wrong. */
export interface Confusion {
  readonly set: EvaluationSet;
  readonly globalStep: number;
  readonly numImages: number;
  /** Neighbouring classes that share a row and a column of `counts`: 1 unless there are many. */
  readonly classesPerCell: number;
  /** (side, side) images by label (rows) and prediction (columns), side = ⌈numClasses / classesPerCell⌉. */
  readonly counts: readonly number[];
  /** (numClasses,) */
  readonly numByLabel: readonly number[];
  /** (numClasses,) those predicted as what they are. */
  readonly numRight: readonly number[];
  /** What was taken for what most often; the rest is left out. */
  readonly pairs: readonly ConfusedPair[];
}

export interface Mistake {
  /** Position in the evaluated set. */
  readonly index: number;
  readonly label: number;
  readonly predicted: number;
  /** Probability of the predicted class. */
  readonly confidence: number;
  /** (C, H, W) bytes; null where the images are too large to be sent to every page. */
  readonly image: Base64 | null;
}

export interface Mistakes {
  readonly globalStep: number;
  /** Mistakes of the evaluation; `worst` shows some of them. */
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
  /** False where the run is shown from its files. */
  readonly isLive: boolean;
  /** Whether `api/work-link` answers; left out where the run is shown from its files. */
  readonly takesBrowsers?: boolean;
}

export interface Update extends Capabilities {
  /** Of the monitor's clock, for ages. */
  readonly now: TimeMs;
  readonly state: RunState;
  /** Updates made. */
  readonly globalStep: number;
  readonly run?: RunInfo;
  readonly points?: Points;
  /** In the order in which they were made; a delta has the new ones. */
  readonly evaluations?: readonly EvaluationRow[];
  /** The oldest are forgotten; a delta has the new ones. */
  readonly events?: readonly EventRow[];
  /** All workers. */
  readonly workers?: readonly WorkerRow[];
  readonly filters?: Filters;
  readonly confusion?: Confusion;
  readonly mistakes?: Mistakes;
  readonly result?: RunResult;
}
