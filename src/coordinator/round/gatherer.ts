/**
 * Gathers results from the workers: passes the work of a step or evaluation to the dispatcher, checks each answer against the
 * request, and has the auditor confirm answers that are doubtful or drawn for an audit before they count.
 */
import type { VectorOps } from '../../model/engine/simd/vector.js';
import type { Clock } from '../../shared/clock.js';
import { float32From, uint16From } from '../../shared/codec.js';
import { ProtocolError, UserError } from '../../shared/errors.js';
import type { Message, Range, WorkerMessage } from '../../shared/protocol.js';
import type { Slices } from '../../shared/slices.js';
import { isNode } from '../../shared/tree.js';
import type { Auditor } from './auditor.js';
import type { Dispatcher, RoundTimes } from './dispatcher.js';
import type { FaultKind } from '../events.js';
import type { GroupHandler, Member, WorkerGroup } from '../group/group.js';
import { GradientAssembler } from './gradient-assembler.js';
import {
  encodeSlice,
  type BlockResult,
  type EvaluationWork,
  type StepPartial,
  type StepWork,
  type WorkParams,
} from './work.js';

export interface GathererOptions {
  readonly group: WorkerGroup;
  readonly dispatcher: Dispatcher;
  readonly auditor: Auditor;
  readonly clock: Clock;
  readonly vectors: VectorOps;
  readonly slices: Slices;
  /** Counts a fault met and mended. */
  readonly count: (fault: FaultKind) => void;
  /**
   * True of a relay, which is given a step piece by piece: an answer to an earlier piece is late, not wrong, and NaN and
   * Inf that its own engine gets too are the coordinator's business.
   */
  readonly isRelay?: boolean;
}

export class Gatherer implements GroupHandler {
  private readonly options: GathererOptions;
  private readonly group: WorkerGroup;
  private readonly dispatcher: Dispatcher;
  private readonly auditor: Auditor;
  /** What answers are for, while there is something. */
  private current: StepWork | EvaluationWork | null = null;
  /** The latest step of which work was begun; a coordinator that came back may have a relay do it once more. */
  private globalStep = 0;
  private readonly gradients: GradientAssembler;
  private readonly stopped = new AbortController();
  private failure: Error | null = null;
  private wakeWaiter: () => void = () => undefined;

  constructor(options: GathererOptions) {
    this.options = options;
    this.group = options.group;
    this.dispatcher = options.dispatcher;
    this.auditor = options.auditor;
    this.gradients = new GradientAssembler(options.slices, options.vectors);
    this.group.handler = this;
  }

  /**
   * Has the work done; with no worker there it waits for one.
   *
   * @returns null if it was broken off by `stop`
   * @throws {UserError} if the training diverged
   */
  async gather(work: StepWork | EvaluationWork): Promise<RoundTimes | null> {
    this.current = work;
    this.globalStep = Math.max(this.globalStep, work.globalStep);
    const times = await this.dispatcher.run(work, this.stopped.signal);
    this.current = null;
    if (work.kind === 'step') this.gradients.reuse(work.gradients);
    this.gradients.abandonAll();
    if (this.failure) throw this.failure;
    return work.isComplete ? times : null;
  }

  /**
   * Replaces what workers said of an evaluation that was gathered by what the coordinator's own engine finds, where
   * answers are audited at all.
   *
   * @returns false if it was broken off by `stop`
   */
  async confirm(work: EvaluationWork): Promise<boolean> {
    if (!this.auditor.isOn) return true;
    const { signal } = this.stopped;
    for (const [block, source] of work.unconfirmed) {
      const own = await this.auditor.evaluate(work, block, () => !signal.aborted);
      if (!own) return false;
      this.settleBlock(source, work, block, work.resultOf(block), own);
    }
    return true;
  }

  /** Ends what is being gathered now; unlike after `stop`, more may follow. */
  breakOff(): void {
    this.dispatcher.breakOff();
  }

  /** Sends ahead a slice of the θ that the next round is about, but not the last one. */
  sendSlice(globalStep: number, params: WorkParams, index: number): void {
    this.dispatcher.sendSlice(globalStep, encodeSlice(globalStep, params, index), index);
  }

  /** Sends ahead the samples that the next step will need. */
  prefetch(work: StepWork): void {
    this.dispatcher.prefetch(work);
  }

  /**
   * Resolves when there are `minWorkers` workers, or nobody waits any more: `isOff` is asked when the signal aborts and at
   * `wake`. `wait` is called once if it takes time.
   */
  async waitForWorkers(
    minWorkers: number,
    signal: AbortSignal,
    isOff: () => boolean,
    wait: (numActive: number) => void,
  ): Promise<void> {
    const isEnough = () => this.group.active().length >= minWorkers || isOff();
    if (isEnough()) return;
    wait(this.group.active().length);
    const wake = () => this.wakeWaiter();
    signal.addEventListener('abort', wake, { once: true });
    while (!isEnough()) await new Promise<void>((resolve) => (this.wakeWaiter = resolve));
    signal.removeEventListener('abort', wake);
  }

  /** Has `waitForWorkers` look again whether anybody waits. */
  wake(): void {
    this.wakeWaiter();
  }

  /** Breaks off what is being gathered. */
  stop(): void {
    this.stopped.abort();
  }

  joined(member: Member, cached: Uint8Array): void {
    this.wakeWaiter();
    this.dispatcher.joined(member, cached);
  }

  drained(member: Member): void {
    this.dispatcher.drained(member);
  }

  lost(
    member: Member,
    isGraceful: boolean,
  ): { readonly hadWork: boolean; readonly action: string } {
    if (!isGraceful) this.options.count('workersLost');
    this.gradients.abandon(member);
    return this.dispatcher.lost(member);
  }

  sliced(member: Member, message: Message<'gradientSlice'>): void {
    const { current } = this;
    this.checkBegun(message);
    // What is said of an earlier step, or was not asked for, its last slice will tell.
    if (current?.kind !== 'step' || current.globalStep !== message.globalStep) return;
    if (!this.dispatcher.owes(member, message.range)) return;
    if (message.first !== 0 && this.isOfEarlierPiece(member, message.range)) return;
    this.gradients.take(member, message);
  }

  answered(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const { current } = this;
    this.checkBegun(message);
    const isLate =
      this.options.isRelay === true &&
      (!this.dispatcher.owes(member, message.range) ||
        (message.type === 'partial' && this.isOfEarlierPiece(member, message.range)));
    if (current?.globalStep === message.globalStep && !isLate) {
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

  /** Whether the slices before were ignored: a relay may be given once more what a worker is just answering. */
  private isOfEarlierPiece(member: Member, range: Range): boolean {
    return this.options.isRelay === true && !this.gradients.canComplete(member, range);
  }

  /** @throws {ProtocolError} if it speaks of a step that has not begun */
  private checkBegun({ type, globalStep }: WorkerMessage & { globalStep: number }): void {
    if (globalStep <= this.globalStep) return;
    const message = `A ${type} of step ${globalStep}, now ${this.globalStep}`;
    throw new ProtocolError('unexpected', message);
  }

  /** An answer to an earlier round: of no use but for what it tells of the worker's pace. */
  private takeStale(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const { range, computeMs, type } = message;
    const kind = type === 'partial' ? 'step' : 'evaluation';
    this.dispatcher.answeredLate(member, kind, range, computeMs);
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
    if (member.isExact && !isNode(range, step.numUnits)) {
      throw new ProtocolError(
        'malformed',
        `Wrong partial of ${show(range)}: no node of the tree, as an exact worker's is`,
      );
    }
    const gradient = this.gradients.complete(member, message);
    step.gradients.push(gradient);
    this.noteAnswer(member, message);

    const partial = { gradient, lossSum, numCorrect, numImages };
    const trace = {
      workerId: member.workerId,
      range,
      startedAt: startedAt - member.clockOffset.offsetMs,
      computeMs,
      receivedAt: this.options.clock.now(),
      wasUsed: false,
    };
    step.traces.push(trace);
    const use = (source: Member | null, node: Range, value: StepPartial) => {
      const added = step.reducer.add(node, value);
      step.credit(source, added);
      if (added.length === 0) this.options.count('duplicatePartials');
      else trace.wasUsed = source !== null;
    };
    if (!step.hasOpen(range)) this.options.count('duplicatePartials');
    else if (this.isDoubtful(member) || !this.isFinite(partial)) {
      this.begin(this.confirmPartial(member, step, range, partial, use));
    } else {
      if (!member.isExact) step.isApproximate = true;
      use(member, range, partial);
    }
    this.dispatcher.progressed();
  }

  private takeEvaluation(
    member: Member,
    message: Message<'evaluation'>,
    work: EvaluationWork,
  ): void {
    const { range } = message;
    const predictions = uint16From(message.predictions, 'predictions');
    const [lo, hi] = range;
    const lossSums = float32From(message.lossSums, hi - lo, 'lossSums');
    if (hi > work.numUnits || predictions.length !== work.imagesIn(range)) {
      throw new ProtocolError(
        'malformed',
        `Wrong evaluation of ${show(range)}: ${predictions.length} predictions`,
      );
    }
    const { numClasses } = work;
    const wrong = predictions.find((prediction) => prediction >= numClasses);
    if (wrong !== undefined) {
      throw new ProtocolError(
        'malformed',
        `Wrong evaluation of ${show(range)}: a prediction of class ${wrong}, expected 0 to ${numClasses - 1}`,
      );
    }
    this.noteAnswer(member, message);
    if (!work.hasOpen(range)) this.options.count('duplicateEvaluations');
    const isAudited = this.isDoubtful(member);
    let from = 0;
    for (let block = lo; block < hi; block++) {
      const end = from + work.imagesIn([block, block + 1]);
      const result = {
        lossSum: lossSums[block - lo],
        predictions: predictions.subarray(from, end),
      };
      from = end;
      if (!work.isOpen(block)) continue;
      if (isAudited || !Number.isFinite(result.lossSum)) {
        this.begin(this.confirmBlock(member, work, block, result));
      } else {
        if (!member.isExact) work.isApproximate = true;
        work.take(block, result, member);
      }
    }
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

  // Doubts

  /** Whether an answer of a worker is confirmed before it counts: by chance, or as others of its kind have lied. */
  private isDoubtful(member: Member): boolean {
    return this.auditor.draw() || member.isOnProbation;
  }

  /** Lets a confirmation take its time; one that fails, or finds that the run has diverged, ends the run. */
  private begin(confirmation: Promise<void>): void {
    confirmation.catch((error: unknown) => {
      this.failure ??= error instanceof Error ? error : new Error(String(error));
      this.stop();
    });
  }

  /**
   * Has a partial computed again, and takes the auditor's in its place. NaN and Inf may be the training's fault: then
   * it has diverged, and stops before the update.
   */
  private async confirmPartial(
    member: Member,
    step: StepWork,
    range: Range,
    partial: StepPartial,
    use: (source: Member | null, node: Range, value: StepPartial) => void,
  ): Promise<void> {
    step.hold(range);
    const own = await this.auditor.partials(step, range, () => this.current === step);
    if (this.current !== step || !own) return;
    step.release(range);
    if (!own.every((other) => this.isFinite(other.partial))) {
      if (this.options.isRelay) {
        for (const other of own) use(member, other.node, other.partial);
        this.dispatcher.progressed();
        return;
      }
      throw diverged(step.globalStep, 'its gradient is not finite');
    }
    const isRight = this.auditor.isRightPartial(member.isExact, partial, own);
    for (const other of own) use(isRight ? member : null, other.node, other.partial);
    this.judge(member, isRight, this.isFinite(partial), `its gradient of ${show(range)}`);
    this.dispatcher.progressed();
  }

  private async confirmBlock(
    member: Member,
    work: EvaluationWork,
    block: number,
    result: BlockResult,
  ): Promise<void> {
    const units = [block, block + 1] as const;
    work.hold(units);
    const own = await this.auditor.evaluate(work, block, () => this.current === work);
    if (this.current !== work || !own) return;
    work.release(units);
    this.settleBlock(member, work, block, result, own);
    this.dispatcher.progressed();
  }

  private settleBlock(
    member: Member,
    work: EvaluationWork,
    block: number,
    result: BlockResult,
    own: BlockResult,
  ): void {
    if (!Number.isFinite(own.lossSum)) {
      if (this.options.isRelay) {
        work.take(block, own, null);
        return;
      }
      throw diverged(work.globalStep, `its loss on the ${work.set} images is not finite`);
    }
    const isRight = this.auditor.isRightBlock(member.isExact, result, own);
    work.take(block, own, null);
    const isFinite = Number.isFinite(result.lossSum);
    this.judge(member, isRight, isFinite, `its evaluation of block ${block}`);
  }

  /** What becomes of a worker after an answer of its was computed again. */
  private judge(member: Member, isRight: boolean, isFinite: boolean, what: string): void {
    const { count } = this.options;
    if (this.auditor.isOn) count('audits');
    if (isRight) return;
    count(isFinite ? 'auditsFailed' : 'badNumbers');
    const why = !isFinite
      ? 'has NaN or Inf'
      : member.isExact
        ? `has not the bits of engine ${this.auditor.fingerprint}`
        : `is too far from that of engine ${this.auditor.fingerprint}`;
    this.group.evict(member, 'badNumbers', `${what} ${why}`, isFinite);
  }

  private isFinite({ lossSum, gradient }: StepPartial): boolean {
    return Number.isFinite(lossSum) && this.options.vectors.isFinite(gradient);
  }
}

function diverged(globalStep: number, why: string): UserError {
  return new UserError(
    `The training diverged at step ${globalStep}: ${why}; ` +
      'start again with a smaller --lr, or resume from the last checkpoint',
  );
}

function show([lo, hi]: Range): string {
  return `units [${lo}, ${hi})`;
}
