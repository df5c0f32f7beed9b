/**
 * A relay: a worker to its parent, a coordinator to its own workers. It takes ranges, has its workers compute them, sums over
 * the same tree, and sends one partial per node to its parent. None of its decisions affects the bits of a run.
 */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Message } from '../shared/protocol.js';
import type { SessionOptions } from '../worker/session.js';
import type { Worker, WorkerOutcome } from '../worker/worker.js';
import { Crew, type CrewOptions } from './crew.js';

/** The server that workers connect to. */
export interface Door {
  close(): Promise<void>;
}

export interface RelayOptions {
  /** Creates the worker that connects to the parent. @param own the relay's part of its session options */
  readonly createWorker: (own: Pick<SessionOptions, 'engineName' | 'createComputation'>) => Worker;
  readonly crewOptions: (model: Model, regularizer: Regularizer) => CrewOptions;
  /** Join line of the parent, without a token; known once the relay has dialled. */
  readonly parent: () => string;
  /** Starts accepting workers. @throws {UserError} if it cannot listen on the address */
  readonly openDoor: (crew: Crew) => Promise<Door>;
}

export class Relay {
  private readonly options: RelayOptions;
  private crew: Crew | null = null;
  private door: Door | null = null;

  constructor(options: RelayOptions) {
    this.options = options;
  }

  /** Works until the run is finished, the relay is refused, or the signal aborts; then tells its workers. */
  async work(signal: AbortSignal): Promise<WorkerOutcome> {
    const worker = this.options.createWorker({
      engineName: 'relay',
      createComputation: (model, regularizer, welcome) => this.crewFor(model, regularizer, welcome),
    });
    let end = { isFinal: false, reason: 'stopped' };
    try {
      const outcome = await worker.work(signal);
      if (outcome.outcome === 'finished') end = { isFinal: true, reason: outcome.reason };
      return outcome;
    } finally {
      await this.dismiss(end.isFinal, end.reason);
    }
  }

  private async crewFor(
    model: Model,
    regularizer: Regularizer,
    welcome: Message<'welcome'>,
  ): Promise<Crew> {
    if (this.crew?.isFor(welcome)) return this.crew;
    await this.dismiss(false, 'has another run');
    const parent = this.options.parent();
    const run = { model, regularizer, welcome, parent };
    const crew = new Crew(this.options.crewOptions(model, regularizer), run);
    this.crew = crew;
    this.door = await this.options.openDoor(crew);
    return crew;
  }

  private async dismiss(isFinal: boolean, reason: string): Promise<void> {
    const { crew, door } = this;
    this.crew = null;
    this.door = null;
    crew?.close(isFinal, reason);
    await door?.close();
  }
}
