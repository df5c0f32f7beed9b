/**
 * A relay: a worker to its parent, a coordinator to its own workers. It takes ranges, has its workers compute them, sums over
 * the same tree, and sends one partial per node to its parent. None of its decisions affects the bits of a run.
 */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Channel } from '../shared/channel.js';
import type { Message } from '../shared/protocol.js';
import type { SessionOptions } from '../worker/session.js';
import type { Worker, WorkerOutcome } from '../worker/worker.js';
import { Crew, type CrewOptions } from './crew.js';

/** The server that workers connect to. */
export interface Door {
  /** Whether the workers of that crew can use it, too. */
  fits(crew: Crew): boolean;
  close(): Promise<void>;
}

type Accept = (channel: Channel, address: string) => void;

export interface RelayOptions {
  /** Creates the worker that connects to the parent. @param own the relay's part of its session options */
  readonly createWorker: (own: Pick<SessionOptions, 'engineName' | 'createComputation'>) => Worker;
  readonly crewOptions: (model: Model, regularizer: Regularizer) => CrewOptions;
  /** Join line of the peer that the relay is connected to, without a token; known once it has dialled. */
  readonly parent: () => string;
  /** Starts accepting workers of a crew, or of one like it. @throws {UserError} if it cannot listen on the address */
  readonly openDoor: (crew: Crew, accept: Accept) => Promise<Door>;
}

export class Relay {
  private readonly options: RelayOptions;
  private current: Crew | null = null;
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

  /** Of the run that it works for; null before the first, and at the end. */
  get crew(): Crew | null {
    return this.current;
  }

  private async crewFor(
    model: Model,
    regularizer: Regularizer,
    welcome: Message<'welcome'>,
  ): Promise<Crew> {
    const before = this.current;
    if (before?.isFor(welcome)) return before;
    const { crewOptions, parent, openDoor } = this.options;
    const wasReady = before?.wasReady === true;
    const crew = new Crew(crewOptions(model, regularizer), {
      ...{ model, regularizer, welcome, parent, wasReady },
    });
    this.current = crew;
    // They come again at once; a closed door would send them to the relay's parent, for good.
    before?.close(false, 'has another run');
    if (this.door?.fits(crew)) return crew;
    await this.door?.close();
    this.door = await openDoor(crew, (channel, address) => {
      if (this.current) this.current.accept(channel, address);
      else channel.terminate();
    });
    return crew;
  }

  private async dismiss(isFinal: boolean, reason: string): Promise<void> {
    const { current, door } = this;
    this.current = null;
    this.door = null;
    current?.close(isFinal, reason);
    await door?.close();
  }
}
