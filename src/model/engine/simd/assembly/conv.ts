/**
 * Convolution by its definition, for every kernel size, stride and number of channels.
 *
 *   z[o][y][x] = b[o] + Σ_t w[o][t] · in[t + stride·(y, x)],   t = (c, i, j), flattened
 *   dw[o][t]   = Σ_(y,x) dz[o][y][x] · in[t + stride·(y, x)]
 *
 * Every element is a v128: one value of four images. The taps t are flattened through a table of byte offsets, which
 * makes the kernels generic in size, and keeps each loop at one multiply–add an accumulator: V8 reorders pure SIMD
 * operations inside a basic block, so a reduction unrolled by hand spills. Tiles have two outputs and four positions
 * (or taps): 8 accumulators + 2 + 1 + 1 of the 15 registers that V8 gives out on x86.
 *
 * Tiles at an edge are clamped: they compute an element again that another tile has, with the same bits.
 */

// @ts-ignore: decorator
@inline
function multiplyAdd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/**
 * One tile: outputs o and o1, positions p0 … p3, all taps.
 * `contiguous` is a constant: then p1 … p3 follow p0 directly and need no additions.
 */
// @ts-ignore: decorator
@inline
function tile(
  contiguous: bool,
  p0: usize,
  p1: usize,
  p2: usize,
  p3: usize,
  taps: usize,
  tapsEnd: usize,
  w: usize,
  wPitch: usize,
  bias0: v128,
  bias1: v128,
  out0: usize,
  out1: usize,
  q1: usize,
  q2: usize,
  q3: usize,
): void {
  let a0 = bias0;
  let a1 = bias0;
  let a2 = bias0;
  let a3 = bias0;
  let b0 = bias1;
  let b1 = bias1;
  let b2 = bias1;
  let b3 = bias1;
  do {
    const t = load<u32>(taps);
    const u = v128.load_splat<f32>(w);
    const v = v128.load_splat<f32>(w + wPitch);
    let x = v128.load(p0 + t);
    a0 = multiplyAdd(a0, x, u);
    b0 = multiplyAdd(b0, x, v);
    x = contiguous ? v128.load(p0 + t, 16) : v128.load(p1 + t);
    a1 = multiplyAdd(a1, x, u);
    b1 = multiplyAdd(b1, x, v);
    x = contiguous ? v128.load(p0 + t, 32) : v128.load(p2 + t);
    a2 = multiplyAdd(a2, x, u);
    b2 = multiplyAdd(b2, x, v);
    x = contiguous ? v128.load(p0 + t, 48) : v128.load(p3 + t);
    a3 = multiplyAdd(a3, x, u);
    b3 = multiplyAdd(b3, x, v);
    taps += 4;
    w += 4;
  } while (taps < tapsEnd);
  v128.store(out0, a0);
  v128.store(out0 + q1, a1);
  v128.store(out0 + q2, a2);
  v128.store(out0 + q3, a3);
  v128.store(out1, b0);
  v128.store(out1 + q1, b1);
  v128.store(out1 + q2, b2);
  v128.store(out1 + q3, b3);
}

/**
 * z ← b + w ∗ in, for one group of four images.
 *
 * @param input (c, rows, W) v128; `rowBytes` and `stepBytes` lie between outputs that are neighbours in y and x
 * @param weights (numOutputs, numTaps) float32
 * @param biases (numOutputs,) float32, or 0 for none
 * @param output (numOutputs, height, width) v128
 * @param taps (numTaps,) u32: byte offset of each tap from the input under the window's first pixel
 */
export function convForward(
  input: usize,
  rowBytes: usize,
  stepBytes: usize,
  weights: usize,
  biases: usize,
  output: usize,
  height: i32,
  width: i32,
  numOutputs: i32,
  taps: usize,
  numTaps: i32,
): void {
  const tapsEnd = taps + (<usize>numTaps << 2);
  const wPitch = <usize>numTaps << 2;
  const outRowBytes = <usize>width << 4;
  const outBytes = outRowBytes * height;
  const isContiguous = stepBytes == 16 && (width & 3) == 0;
  for (let o = 0; o < numOutputs; o += 2) {
    const isPair = o + 1 < numOutputs;
    const w = weights + <usize>o * wPitch;
    const secondW = isPair ? wPitch : 0;
    const out0 = output + <usize>o * outBytes;
    const out1 = isPair ? out0 + outBytes : out0;
    let bias0 = f32x4.splat(0.0);
    let bias1 = bias0;
    if (biases != 0) {
      const b = biases + (<usize>o << 2);
      bias0 = v128.load_splat<f32>(b);
      bias1 = v128.load_splat<f32>(isPair ? b + 4 : b);
    }
    if (isContiguous) {
      for (let y = 0; y < height; y++) {
        const row = input + <usize>y * rowBytes;
        const q = <usize>y * outRowBytes;
        for (let x: usize = 0; x < outRowBytes; x += 64) {
          tile(
            true, row + x, 0, 0, 0, taps, tapsEnd, w, secondW, bias0, bias1,
            out0 + q + x, out1 + q + x, 16, 32, 48,
          );
        }
      }
    } else {
      // Windows of 2×2 positions.
      for (let y = 0; y < height; y += 2) {
        const nextRow = y + 1 < height;
        const row0 = input + <usize>y * rowBytes;
        const down = nextRow ? rowBytes : 0;
        const qDown = nextRow ? outRowBytes : 0;
        for (let x = 0; x < width; x += 2) {
          const nextColumn = x + 1 < width;
          const p = row0 + <usize>x * stepBytes;
          const right = nextColumn ? stepBytes : 0;
          const qRight: usize = nextColumn ? 16 : 0;
          const q = <usize>y * outRowBytes + (<usize>x << 4);
          tile(
            false, p, p + right, p + down, p + down + right, taps, tapsEnd, w, secondW, bias0, bias1,
            out0 + q, out1 + q, qRight, qDown, qDown + qRight,
          );
        }
      }
    }
  }
}

/** The same for the gradient of two outputs' weights at four taps, all positions. */
// @ts-ignore: decorator
@inline
function weightTile(
  contiguous: bool,
  dz: usize,
  dzSecond: usize,
  dzRowBytes: usize,
  dzStepBytes: usize,
  p0: usize,
  d1: usize,
  d2: usize,
  d3: usize,
  rowBytes: usize,
  stepBytes: usize,
  height: i32,
  width: i32,
  sum0: usize,
  sum1: usize,
  q1: usize,
  q2: usize,
  q3: usize,
): void {
  let a0 = v128.load(sum0);
  let a1 = v128.load(sum0 + q1);
  let a2 = v128.load(sum0 + q2);
  let a3 = v128.load(sum0 + q3);
  let b0 = v128.load(sum1);
  let b1 = v128.load(sum1 + q1);
  let b2 = v128.load(sum1 + q2);
  let b3 = v128.load(sum1 + q3);
  for (let y = 0; y < height; y++) {
    let d = dz;
    const dEnd = dz + <usize>width * dzStepBytes;
    let p = p0;
    do {
      const u = v128.load(d);
      const v = v128.load(d + dzSecond);
      let x = v128.load(p);
      a0 = multiplyAdd(a0, x, u);
      b0 = multiplyAdd(b0, x, v);
      x = contiguous ? v128.load(p, 16) : v128.load(p + d1);
      a1 = multiplyAdd(a1, x, u);
      b1 = multiplyAdd(b1, x, v);
      x = contiguous ? v128.load(p, 32) : v128.load(p + d2);
      a2 = multiplyAdd(a2, x, u);
      b2 = multiplyAdd(b2, x, v);
      x = contiguous ? v128.load(p, 48) : v128.load(p + d3);
      a3 = multiplyAdd(a3, x, u);
      b3 = multiplyAdd(b3, x, v);
      d += dzStepBytes;
      p += stepBytes;
    } while (d < dEnd);
    dz += dzRowBytes;
    p0 += rowBytes;
  }
  v128.store(sum0, a0);
  v128.store(sum0 + q1, a1);
  v128.store(sum0 + q2, a2);
  v128.store(sum0 + q3, a3);
  v128.store(sum1, b0);
  v128.store(sum1 + q1, b1);
  v128.store(sum1 + q2, b2);
  v128.store(sum1 + q3, b3);
}

/**
 * sums ← sums + dw, lane by lane, for one group of four images.
 *
 * @param dz (numOutputs, height, width) v128 at the given distances; `dzBytes` lies between outputs
 * @param quads (numQuads, 4) u32: taps that are computed together, by number; a tail repeats its last tap
 * @param sums (numOutputs, numTaps) v128
 */
export function convBackwardWeights(
  input: usize,
  rowBytes: usize,
  stepBytes: usize,
  dz: usize,
  dzBytes: usize,
  dzRowBytes: usize,
  dzStepBytes: usize,
  height: i32,
  width: i32,
  numOutputs: i32,
  taps: usize,
  numTaps: i32,
  quads: usize,
  numQuads: i32,
  sums: usize,
): void {
  const sumPitch = <usize>numTaps << 4;
  for (let o = 0; o < numOutputs; o += 2) {
    const isPair = o + 1 < numOutputs;
    const d = dz + <usize>o * dzBytes;
    const dzSecond = isPair ? dzBytes : 0;
    const sum = sums + <usize>o * sumPitch;
    const second = isPair ? sumPitch : 0;
    for (let i = 0; i < numQuads; i++) {
      const quad = quads + (<usize>i << 4);
      const t0 = <usize>load<u32>(quad);
      const t1 = <usize>load<u32>(quad, 4);
      const t2 = <usize>load<u32>(quad, 8);
      const t3 = <usize>load<u32>(quad, 12);
      const offset = <usize>load<u32>(taps + (t0 << 2));
      const d1 = <usize>load<u32>(taps + (t1 << 2)) - offset;
      const d2 = <usize>load<u32>(taps + (t2 << 2)) - offset;
      const d3 = <usize>load<u32>(taps + (t3 << 2)) - offset;
      const sum0 = sum + (t0 << 4);
      const q1 = (t1 - t0) << 4;
      const q2 = (t2 - t0) << 4;
      const q3 = (t3 - t0) << 4;
      if (d1 == 16 && d2 == 32 && d3 == 48) {
        weightTile(
          true, d, dzSecond, dzRowBytes, dzStepBytes, input + offset, 0, 0, 0,
          rowBytes, stepBytes, height, width, sum0, sum0 + second, q1, q2, q3,
        );
      } else {
        weightTile(
          false, d, dzSecond, dzRowBytes, dzStepBytes, input + offset, d1, d2, d3,
          rowBytes, stepBytes, height, width, sum0, sum0 + second, q1, q2, q3,
        );
      }
    }
  }
}

/**
 * flipped[c][o][i][j] = w[o][c][K−1−i][K−1−j]: with it, the gradient of a convolution's input is a convolution of its
 * output's gradient.
 */
export function flipWeights(
  weights: usize,
  flipped: usize,
  numOutputs: i32,
  numInputs: i32,
  kernelSize: i32,
): void {
  const area = kernelSize * kernelSize;
  for (let c = 0; c < numInputs; c++) {
    for (let o = 0; o < numOutputs; o++) {
      const from = weights + (<usize>((o * numInputs + c) * area) << 2);
      for (let t = area - 1; t >= 0; t--) {
        store<f32>(flipped, load<f32>(from + (<usize>t << 2)));
        flipped += 4;
      }
    }
  }
}
