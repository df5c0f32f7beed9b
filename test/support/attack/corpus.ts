/** Frames as they passed: some of each message, of both directions. */
import { Packr } from 'msgpackr';

const packr = new Packr({ useRecords: false });
const MAX_OF_A_TYPE = 16;

export class Corpus {
  private readonly byType = new Map<string, Uint8Array[]>();

  add(frame: Uint8Array): void {
    const { type } = packr.unpack(frame) as { type: string };
    const frames = this.byType.get(type) ?? [];
    this.byType.set(type, frames);
    if (frames.length >= MAX_OF_A_TYPE) frames.shift();
    frames.push(Uint8Array.from(frame));
  }

  get types(): string[] {
    return [...this.byType.keys()].sort();
  }

  all(): readonly Uint8Array[] {
    return [...this.byType.values()].flat();
  }

  of(type: string): Uint8Array | undefined {
    return this.byType.get(type)?.at(-1);
  }
}
