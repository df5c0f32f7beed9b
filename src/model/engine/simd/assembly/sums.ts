/** Ends of reductions: lanes to one value. */
import { sumLanes } from './math';

/** out[i] ← sum of the lanes of sums[i], `count` of them. */
export function reduceLanes(sums: usize, out: usize, count: i32): void {
  const end = out + ((<usize>count) << 2);
  while (out < end) {
    store<f32>(out, sumLanes(v128.load(sums)));
    sums += 16;
    out += 4;
  }
}
