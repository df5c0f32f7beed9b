/** Puts together the gradients that come from workers, whole or slice by slice, in buffers that are used again. */
import type { VectorOps } from '../../model/engine/simd/vector.js';
import { copyFloat32 } from '../../shared/codec.js';
import { ProtocolError } from '../../shared/errors.js';
import type { Message, Range } from '../../shared/protocol.js';
import { Assembly, type Slices } from '../../shared/slices.js';
import type { Member } from '../group/group.js';

export class GradientAssembler {
  private readonly slices: Slices;
  private readonly vectors: VectorOps;
  /** Buffers (P,) that nobody needs. */
  private readonly free: Float32Array[] = [];
  /** Gradients that are not whole yet: one of each worker at most. */
  private readonly open = new Map<Member, { range: Range; assembly: Assembly }>();

  constructor(slices: Slices, vectors: VectorOps) {
    this.slices = slices;
    this.vectors = vectors;
  }

  /** Takes any slice but the last. @throws {ProtocolError} if it is not the next one */
  take(member: Member, { range, first, values }: Message<'gradientSlice'>): void {
    if (first === 0) {
      const buffer = this.open.get(member)?.assembly.values ?? this.allocate();
      this.open.set(member, { range, assembly: new Assembly(this.slices, buffer) });
    }
    this.assemblyOf(member, range).take(first, values, 'gradient');
  }

  /**
   * Takes the last slice.
   *
   * @returns (P,) the caller's until it is handed to `reuse`
   * @throws {ProtocolError} if those before it are missing, or the length is wrong
   */
  complete(member: Member, { range, gradient }: Message<'partial'>): Float32Array {
    if (this.slices.isWhole) {
      const whole = this.allocate();
      try {
        copyFloat32(gradient, whole, 'gradient');
        return whole;
      } catch (error) {
        this.free.push(whole);
        throw error;
      }
    }
    const assembly = this.assemblyOf(member, range);
    assembly.take(this.slices.last[0], gradient, 'gradient');
    this.open.delete(member);
    return assembly.values;
  }

  /** Whether the last slice completes that gradient, as far as can be told. */
  canComplete(member: Member, range: Range): boolean {
    return this.slices.isWhole || this.openOf(member, range) !== null;
  }

  /** What is open of the worker's gradient will not become whole. */
  abandon(member: Member): void {
    const open = this.open.get(member);
    if (!open) return;
    this.open.delete(member);
    this.free.push(open.assembly.values);
  }

  abandonAll(): void {
    for (const member of [...this.open.keys()]) this.abandon(member);
  }

  /** Nobody needs these gradients any more. */
  reuse(gradients: readonly Float32Array[]): void {
    this.free.push(...gradients);
  }

  private allocate(): Float32Array {
    return this.free.pop() ?? this.vectors.allocate();
  }

  private assemblyOf(member: Member, range: Range): Assembly {
    const assembly = this.openOf(member, range);
    if (assembly) return assembly;
    throw new ProtocolError(
      'malformed',
      `A slice of units [${range.join(', ')}) without those before it`,
    );
  }

  private openOf(member: Member, range: Range): Assembly | null {
    const open = this.open.get(member);
    return open?.range[0] === range[0] && open.range[1] === range[1] ? open.assembly : null;
  }
}
