/**
 * The reduction of one step: collects partials as they arrive, and sums them over the fixed tree.
 *
 * A partial from an exact worker is a node of the tree. Nodes may overlap, because work is dispatched again when a worker is
 * late or lost; the sum has the same bits whichever nodes it uses. An approximate worker may send one sum for its whole
 * share, a range that is not a node: the sum is placed at the first micro-batch, and the rest of the range is empty.
 */
import type { Range } from '../../shared/protocol.js';
import { isNode, maximalNodes, middle } from '../../shared/tree.js';

/** Adds `term` to `sum`, possibly in place, and returns the result. Not assumed to be associative: order matters. */
export type Add<T> = (sum: T, term: T) => T;

export class Reducer<T> {
  readonly numUnits: number;
  /** Values of nodes, by `key`. */
  private readonly nodes = new Map<number, T>();
  /** Ranges that are not nodes: the sum at the first unit, null at the others. */
  private readonly ragged = new Map<number, T | null>();
  private readonly covered: Uint8Array;
  private numCovered = 0;

  constructor(numUnits: number) {
    this.numUnits = numUnits;
    this.covered = new Uint8Array(numUnits);
  }

  isCovered(unit: number): boolean {
    return this.covered[unit] === 1;
  }

  get isComplete(): boolean {
    return this.numCovered === this.numUnits;
  }

  /**
   * Takes ownership of the value; `reduce` may change it.
   *
   * @returns the newly covered units; none if all were covered, or if some were and the range is not a node
   */
  add(range: Range, value: T): number[] {
    const [lo, hi] = range;
    const added: number[] = [];
    for (let unit = lo; unit < hi; unit++) if (!this.covered[unit]) added.push(unit);
    if (added.length === 0) return added;
    if (!isNode(range, this.numUnits) || this.hasRagged(range)) {
      if (added.length < hi - lo) return [];
      this.ragged.set(lo, value);
      for (let unit = lo + 1; unit < hi; unit++) this.ragged.set(unit, null);
    } else {
      this.nodes.set(this.key(lo, hi), value);
    }
    this.covered.fill(1, lo, hi);
    this.numCovered += added.length;
    return added;
  }

  /**
   * Sum of the partials over the tree, in tree order.
   *
   * @throws {RangeError} if a unit is missing
   */
  reduce(add: Add<T>): T {
    const sum = this.reduceNode(0, this.numUnits, add);
    if (!this.isComplete || sum === null) {
      throw new RangeError(
        `Cannot reduce: ${this.numUnits - this.numCovered} of ${this.numUnits} micro-batches are missing`,
      );
    }
    return sum;
  }

  /**
   * Sum of one range, in tree order; null if the range lies in the empty part of a range that is not a node.
   *
   * If `add` works in place, the values of this range cannot be reduced again.
   */
  sumOf(range: Range, add: Add<T>): T | null {
    return maximalNodes(range, this.numUnits)
      .map(([lo, hi]) => this.reduceNode(lo, hi, add))
      .reduce((sum, term) => (sum === null || term === null ? (sum ?? term) : add(sum, term)));
  }

  private reduceNode(lo: number, hi: number, add: Add<T>): T | null {
    const value = this.nodes.get(this.key(lo, hi));
    if (value !== undefined) return value;
    if (hi - lo === 1) return this.ragged.get(lo) ?? null;
    const mid = middle(lo, hi);
    const left = this.reduceNode(lo, mid, add);
    const right = this.reduceNode(mid, hi, add);
    if (left === null || right === null) return left ?? right;
    return add(left, right);
  }

  private hasRagged([lo, hi]: Range): boolean {
    if (this.ragged.size === 0) return false;
    for (let unit = lo; unit < hi; unit++) if (this.ragged.has(unit)) return true;
    return false;
  }

  private key(lo: number, hi: number): number {
    return lo * (this.numUnits + 1) + hi;
  }
}
