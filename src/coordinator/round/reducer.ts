/**
 * The reduction of one step: takes partials as they arrive, and adds them over the fixed tree.
 *
 * A partial from an exact worker is a node of the tree. Nodes may overlap, since work is dispatched again when a worker is late
 * or lost; the sum has the same bits whichever nodes it uses. An approximate worker may send one sum for its whole share, a
 * range that is not a node: it is placed at its first micro-batch, and the rest of its range is empty.
 */
import type { Range } from '../../shared/protocol.js';
import { isNode, maximalNodes, middle } from '../../shared/tree.js';

/** How values of one kind are added: into the first, which is returned. Order matters, associativity is not assumed. */
export type Add<T> = (sum: T, term: T) => T;

export class Reducer<T> {
  readonly numUnits: number;
  /** Values of nodes, by `key`. */
  private readonly nodes = new Map<number, T>();
  /** Units covered by the sum of a range that is no node. */
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
   * Takes the value over, which `reduce` may change.
   *
   * @returns the units that it brought; none if each of them is there already, or some are and the range is no node
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
   * @param add adds two values; the sum may be made in place
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
   * Sum of one range, in tree order; null if nothing counts there, as part of a sum that is no node.
   *
   * @param add as in `reduce`; what it has changed is of no more use to `reduce`
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
