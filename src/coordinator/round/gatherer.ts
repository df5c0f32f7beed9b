/**
 * Gathers results from the workers: gives a step's or an evaluation's work to the dispatcher, checks each answer
 * against what was asked, and has doubtful ones decided by the arbiter, an exact engine of the coordinator's own.
 */
import type { Engine } from '../../model/engine/engine.js';
import { IMAGE_BYTES } from '../../model/lenet.js';
import type { VectorOps } from '../../model/engine/simd/vector.js';
import { TreeSum } from '../../model/engine/tree-sum.js';
import type { Channel } from '../../shared/channel.js';
import type { Clock } from '../../shared/clock.js';
import { bytesOf, copyFloat32, float32From } from '../../shared/codec.js';
import { ProtocolError, UserError } from '../../shared/errors.js';
import type { Message, Range } from '../../shared/protocol.js';
import type { Random } from '../../shared/random.js';
import { Dispatcher, type RoundTimes } from './dispatcher.js';
import { WorkerGroup, type GroupHandler, type GroupOptions, type Member } from '../group/group.js';
import type { Samples } from '../samples.js';
import type { EvaluationWork, StepPartial, StepWork } from './work.js';

export interface GathererOptions extends Omit<GroupOptions, 'handler'> {
  readonly clock: Clock;
  readonly random: Random;
  readonly samples: Samples;
  /** An exact engine of the run's model: decides where workers disagree. */
  readonly arbiter: Engine;
  readonly vectors: VectorOps;
  /** Share of partials that a second exact worker repeats, 0 to 1. */
  readonly audit: number;
  /** Counts a fault met and mended. */
  readonly count: (fault: string) => void;
}

/** A partial that waits for a second worker to agree. */
interface Audit {
  readonly range: Range;
  readonly first: Member;
  readonly partial: StepPartial;
  readonly second: Member;
}

export class Gatherer implements GroupHandler {
  readonly group: WorkerGroup;
  private readonly options: GathererOptions;
  private readonly dispatcher: Dispatcher;
  /** What answers are for, while there is something. */
  private current: StepWork | EvaluationWork | null = null;
  /** The step of the work last begun. */
  private globalStep = 0;
  private audits: Audit[] = [];
  /** Buffers (P,) for partials, used again from step to step. */
  private readonly freeGradients: Float32Array[] = [];
  private readonly stopped = new AbortController();
  private failure: Error | null = null;
  private wakeWaiter: () => void = () => undefined;

  constructor(options: GathererOptions) {
    this.options = options;
    this.dispatcher = new Dispatcher(options.clock, options.samples);
    this.group = new WorkerGroup({ ...options, handler: this });
    this.dispatcher.attach(this.group);
  }

  accept(channel: Channel, address: string): void {
    this.group.accept(channel, address);
  }

  /**
   * Has the work done; with no worker there it waits for one.
   *
   * @returns null if it was broken off by `stop`
   * @throws {UserError} if the training diverged
   */
  async gather(work: StepWork | EvaluationWork): Promise<RoundTimes | null> {
    this.current = work;
    this.globalStep = work.globalStep;
    const times = await this.dispatcher.run(work, this.stopped.signal);
    this.current = null;
    this.audits = [];
    if (work.kind === 'step') this.freeGradients.push(...work.gradients);
    if (this.failure) throw this.failure;
    return work.isComplete ? times : null;
  }

  /** Sends ahead the samples that the next step will need. */
  prefetch(work: StepWork): void {
    this.dispatcher.prefetch(work);
  }

  /** Resolves when there are `minWorkers` workers, or the signal aborts. `wait` is called once if that takes time. */
  async enough(
    minWorkers: number,
    signal: AbortSignal,
    wait: (numActive: number) => void,
  ): Promise<void> {
    const isEnough = () => this.group.active().length >= minWorkers || signal.aborted;
    if (isEnough()) return;
    wait(this.group.active().length);
    const wake = () => this.wakeWaiter();
    signal.addEventListener('abort', wake, { once: true });
    while (!isEnough()) await new Promise<void>((resolve) => (this.wakeWaiter = resolve));
    signal.removeEventListener('abort', wake);
  }

  /** Breaks off what is being gathered. */
  stop(): void {
    this.stopped.abort();
  }

  joined(): void {
    this.wakeWaiter();
    this.dispatcher.joined();
  }

  lost(member: Member): { readonly hadWork: boolean; readonly action: string } {
    this.options.count('workersLost');
    // What the second one of an audit did not do is done again, by whoever can.
    this.audits = this.audits.filter(({ second }) => second !== member);
    return this.dispatcher.lost(member);
  }

  answered(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const { current } = this;
    if (message.globalStep > this.globalStep) {
      const { type, globalStep } = message;
      throw new ProtocolError(
        'unexpected',
        `A ${type} of step ${globalStep}, now ${this.globalStep}`,
      );
    }
    if (current?.globalStep === message.globalStep) {
      if (message.type === 'partial' && current.kind === 'step') {
        this.takePartial(member, message, current);
        return;
      }
      if (
        message.type === 'evaluation' &&
        current.kind === 'evaluation' &&
        current.set === message.set
      ) {
        this.takeEvaluation(member, message, current);
        return;
      }
    }
    this.takeStale(member, message);
  }

  /** An answer to an earlier round: of no use but for what it tells of the worker's pace. */
  private takeStale(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const { range, computeMs, type } = message;
    const pace = type === 'partial' ? member.stepPace : member.evaluationPace;
    pace.addCompute(range[1] - range[0], computeMs);
    this.options.count('staleAnswers');
  }

  private takePartial(member: Member, message: Message<'partial'>, step: StepWork): void {
    const { range, lossSum, numImages, numCorrect, startedAt, computeMs } = message;
    if (range[1] > step.numUnits || numImages !== step.imagesIn(range) || numCorrect > numImages) {
      throw new ProtocolError(
        'malformed',
        `Wrong partial of ${show(range)}: ${numImages} images, ${numCorrect} of them right`,
      );
    }
    const gradient = this.freeGradients.pop() ?? this.options.vectors.allocate();
    step.gradients.push(gradient);
    copyFloat32(message.gradient, gradient, 'gradient');
    this.noteAnswer(member, message);

    const partial = { gradient, lossSum, numCorrect, numImages };
    if (!this.isFinite(partial)) {
      this.judge(this.judgeBadNumbers(member, step, range));
      return;
    }
    const audit = this.audits.find(
      (other) => other.range[0] < range[1] && range[0] < other.range[1],
    );
    if (audit) this.takeSecond(member, step, range, partial, audit);
    else if (!this.beginAudit(member, step, range, partial)) this.use(member, step, range, partial);
    step.traces.push({
      workerId: member.workerId,
      range,
      startedAt: startedAt - member.clockOffset.offsetMs,
      computeMs,
      receivedAt: this.options.clock.now(),
      wasUsed: range[1] > range[0] && step.isDone(range[0]),
    });
    this.dispatcher.progressed();
  }

  private takeEvaluation(
    member: Member,
    message: Message<'evaluation'>,
    work: EvaluationWork,
  ): void {
    const { range, predictions } = message;
    const lossSums = float32From(message.lossSums, range[1] - range[0], 'lossSums');
    if (range[1] > work.numUnits || predictions.length !== work.imagesIn(range)) {
      throw new ProtocolError(
        'malformed',
        `Wrong evaluation of ${show(range)}: ${predictions.length} predictions`,
      );
    }
    this.noteAnswer(member, message);
    if (work.take(range, lossSums, predictions) === 0) this.options.count('duplicateEvaluations');
    this.dispatcher.progressed();
  }

  /** @throws {ProtocolError} if the worker was not asked for it */
  private noteAnswer(
    member: Member,
    { type, range, computeMs }: Message<'partial'> | Message<'evaluation'>,
  ): void {
    if (!this.dispatcher.answered(member, range, computeMs)) {
      throw new ProtocolError('unexpected', `A ${type} of ${show(range)} that was not asked`);
    }
  }

  private use(member: Member | null, step: StepWork, range: Range, partial: StepPartial): void {
    const added = step.reducer.add(range, partial);
    step.credit(member, added);
    if (added.length === 0) this.options.count('duplicatePartials');
  }

  // Doubts

  /** Lets a judgement take its time; one that cannot be made, or finds that the run has diverged, ends the run. */
  private judge(judgement: Promise<void>): void {
    judgement.catch((error: unknown) => {
      this.failure ??= error instanceof Error ? error : new Error(String(error));
      this.stop();
    });
  }

  /**
   * A worker sent NaN or Inf. The arbiter computes the same: if it agrees, the training has diverged and stops before
   * the update; if not, the worker is sent away and its work done by others.
   */
  private async judgeBadNumbers(member: Member, step: StepWork, range: Range): Promise<void> {
    const own = await this.arbitrate(step, range);
    if (this.current !== step) return;
    if (!this.isFinite(own)) {
      throw new UserError(
        `The training diverged at step ${step.globalStep}: its gradient is not finite; ` +
          'start again with a smaller --lr, or resume from the last checkpoint',
      );
    }
    this.options.count('badNumbers');
    this.group.expel(member, 'badNumbers', `it sent NaN or Inf for ${show(range)}`);
    this.dispatcher.progressed();
  }

  /** Asks a second exact worker for the same range, if chance will have it. @returns whether it did */
  private beginAudit(first: Member, step: StepWork, range: Range, partial: StepPartial): boolean {
    const { audit, random } = this.options;
    if (audit === 0 || !first.isExact || random.float() >= audit) return false;
    if (step.isDone(range[0])) return false;
    const others = this.group.active().filter((member) => member !== first && member.isExact);
    if (others.length === 0) return false;
    const second = others[random.below(others.length)];
    this.audits.push({ range, first, partial, second });
    this.dispatcher.assign(second, range);
    return true;
  }

  /**
   * A partial that overlaps one under audit. That of the second worker is compared; one of anybody else shows that the
   * second is late and its work was given away: then nobody waits for it, and the arbiter takes its place.
   */
  private takeSecond(
    member: Member,
    step: StepWork,
    range: Range,
    partial: StepPartial,
    audit: Audit,
  ): void {
    const isSecond =
      member === audit.second && range[0] === audit.range[0] && range[1] === audit.range[1];
    this.audits = this.audits.filter((other) => other !== audit);
    if (!isSecond) {
      this.options.count('duplicatePartials');
      this.judge(this.judgeAudit(step, audit, null));
      return;
    }
    this.options.count('audits');
    if (isSame(partial, audit.partial)) this.use(audit.first, step, range, audit.partial);
    else this.judge(this.judgeAudit(step, audit, partial));
  }

  /** Two exact workers differ, or there is no second: the arbiter tells who is wrong, and its own result counts. */
  private async judgeAudit(
    step: StepWork,
    audit: Audit,
    second: StepPartial | null,
  ): Promise<void> {
    const { range } = audit;
    const own = await this.arbitrate(step, range);
    if (this.current !== step) return;
    this.use(null, step, range, own);
    for (const [member, partial] of [
      [audit.first, audit.partial],
      [audit.second, second],
    ] as const) {
      if (partial === null || isSame(partial, own)) continue;
      this.options.count('auditsFailed');
      const message = `its gradient of ${show(range)} has not the bits of engine ${this.options.arbiter.fingerprint}`;
      this.group.expel(member, 'badNumbers', message, true);
    }
    this.dispatcher.progressed();
  }

  private isFinite({ lossSum, gradient }: StepPartial): boolean {
    return Number.isFinite(lossSum) && this.options.vectors.isFinite(gradient);
  }

  private async arbitrate(step: StepWork, range: Range): Promise<StepPartial> {
    const { arbiter, samples } = this.options;
    arbiter.setParams(step.params);
    const images = (units: Range) => collect(samples, step.samplesOf(units));
    const partial = (await new TreeSum(arbiter).sum(range, images, () => true))!;
    return { ...partial, gradient: partial.gradient.slice() };
  }
}

/** The images of some samples, one after the other. */
function collect(
  samples: Samples,
  indices: Uint32Array,
): { images: Uint8Array; labels: Uint8Array } {
  const images = new Uint8Array(indices.length * IMAGE_BYTES);
  const labels = new Uint8Array(indices.length);
  indices.forEach((index, i) => {
    images.set(samples.image(index), i * IMAGE_BYTES);
    labels[i] = samples.label(index);
  });
  return { images, labels };
}

function isSame(a: StepPartial, b: StepPartial): boolean {
  return (
    a.lossSum === b.lossSum &&
    a.numCorrect === b.numCorrect &&
    Buffer.compare(bytesOf(a.gradient), bytesOf(b.gradient)) === 0
  );
}

function show([lo, hi]: Range): string {
  return `micro-batches [${lo}, ${hi})`;
}
