/** Frames as they passed, recorded while a run goes on: some of each message, of both directions. */
import { joinFrame, type Frame } from '../../../src/shared/channel.js';
import { decodeCoordinatorMessage, decodeWorkerMessage } from '../../../src/shared/codec.js';
import type { CoordinatorMessage, WorkerMessage } from '../../../src/shared/protocol.js';

const MAX_OF_A_TYPE = 16;

export interface Recorded {
  /** In one piece. */
  readonly frame: Uint8Array;
  readonly message: WorkerMessage | CoordinatorMessage;
}

export class Corpus {
  private readonly byType = new Map<string, Recorded[]>();
  private flat: readonly Recorded[] = [];

  /** @param frame that nobody has changed */
  add(frame: Frame, from: 'worker' | 'coordinator'): void {
    const copy = Uint8Array.from(joinFrame(frame));
    const decode = from === 'worker' ? decodeWorkerMessage : decodeCoordinatorMessage;
    const recorded = { frame: copy, message: decode([copy]) };
    const { type } = recorded.message;
    const others = this.byType.get(type) ?? [];
    if (others.length >= MAX_OF_A_TYPE) others.shift();
    others.push(recorded);
    this.byType.set(type, others);
    this.flat = [...this.byType.values()].flat();
  }

  get types(): string[] {
    return [...this.byType.keys()].sort();
  }

  all(): readonly Recorded[] {
    return this.flat;
  }

  has(...types: readonly string[]): boolean {
    return types.every((type) => this.byType.has(type));
  }

  /** The last of a type. @throws {Error} if none has passed */
  of(type: string): Recorded {
    const recorded = this.byType.get(type)?.at(-1);
    if (!recorded) throw new Error(`No ${type} has passed`);
    return recorded;
  }
}
