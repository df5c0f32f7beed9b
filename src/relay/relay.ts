/**
 * A relay: a worker to its parent, a coordinator to its own workers. It takes a range, has its workers compute it, adds over
 * the same tree, and sends up one partial per node. Nothing it decides affects the bits.
 */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Message } from '../shared/protocol.js';
import { Worker, type WorkerOptions, type WorkerOutcome } from '../worker/worker.js';
import { Crew, type CrewOptions } from './crew.js';

/** Where workers come in. */
export interface Door {
  close(): Promise<void>;
}

export interface RelayOptions extends Omit<WorkerOptions, 'createComputation' | 'engineName'> {
  /** Options for leading the workers of a run. */
  readonly crewOptions: (model: Model, regularizer: Regularizer) => CrewOptions;
  /** Join line of the relay's parent, without a token; known once it has connected. */
  readonly parent: () => string;
  /** Lets workers in. @throws {UserError} if the address cannot be had */
  readonly openDoor: (crew: Crew) => Promise<Door>;
}

export class Relay {
  private readonly options: RelayOptions;
  private crew: Crew | null = null;
  private door: Door | null = null;

  constructor(options: RelayOptions) {
    this.options = options;
  }

  /** Works until the run is finished, the relay is refused, or the signal aborts; then its workers are told. */
  async work(signal: AbortSignal): Promise<WorkerOutcome> {
    const worker = new Worker({
      ...this.options,
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
