/**
 * Fully connected layers for up to 16 images at once.
 *
 *   z[o][g] = b[o] + Σ_i w[o][i] · x[i][g]          dx[i][g] = Σ_o w[o][i] · dz[o][g]
 *   dw[o][i] = Σ_m dz[o][m] · x[m][i]               db[o] = Σ_m dz[o][m]
 *
 * g is a group of four images (one v128), G ∈ {1, 2, 4} of them; m is one image. Both products on the first line are
 * `denseProduct` with other strides. The gradient of the weights has lanes over inputs: rows of x are read four inputs
 * at a time, dz is splatted, and the sum goes straight into the gradient, with no lanes to add up.
 */
import { activate, derivative, LINEAR, RELU, SIGMOID, TANH } from './activation';
import { mulAdd } from './math';

/**
 * y[r][g] = biases[r] + Σ_k w[r·rowBytes + k·stepBytes] · x[k][g]
 *
 * @param x (numSteps, numGroups) v128
 * @param biases (numRows,) float32, or 0 for none
 * @param y (numRows, numGroups) v128
 */
export function denseProduct(
  x: usize,
  numSteps: i32,
  w: usize,
  rowBytes: usize,
  stepBytes: usize,
  biases: usize,
  y: usize,
  numRows: i32,
  numGroups: i32,
): void {
  const height = 8 / numGroups;
  const lastStart = max(numRows - height, 0);
  for (let r = 0; r < numRows; r += height) {
    // The last tile moves up to be whole; a matrix lower than a tile repeats its last row.
    const start = min(r, lastStart);
    if (numGroups == 4) {
      tile2x4(x, numSteps, w, rowBytes, stepBytes, biases, y, start, numRows - 1);
    } else if (numGroups == 2) {
      tile4x2(x, numSteps, w, rowBytes, stepBytes, biases, y, start, numRows - 1);
    } else {
      tile8x1(x, numSteps, w, rowBytes, stepBytes, biases, y, start, numRows - 1);
    }
  }
}

// @ts-ignore: decorator
@inline
function bias(biases: usize, row: i32): v128 {
  return biases == 0 ? f32x4.splat(0.0) : v128.load_splat<f32>(biases + (<usize>row << 2));
}

function tile2x4(
  x: usize,
  numSteps: i32,
  w: usize,
  rowBytes: usize,
  stepBytes: usize,
  biases: usize,
  y: usize,
  row: i32,
  lastRow: i32,
): void {
  const row1 = min(row + 1, lastRow);
  let a0 = bias(biases, row);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = bias(biases, row1);
  let b1 = b0;
  let b2 = b0;
  let b3 = b0;
  const d1 = <usize>(row1 - row) * rowBytes;
  w += <usize>row * rowBytes;
  const xEnd = x + (<usize>numSteps << 6);
  do {
    const u = v128.load_splat<f32>(w);
    const v = v128.load_splat<f32>(w + d1);
    let t = v128.load(x);
    a0 = mulAdd(t, u, a0);
    b0 = mulAdd(t, v, b0);
    t = v128.load(x, 16);
    a1 = mulAdd(t, u, a1);
    b1 = mulAdd(t, v, b1);
    t = v128.load(x, 32);
    a2 = mulAdd(t, u, a2);
    b2 = mulAdd(t, v, b2);
    t = v128.load(x, 48);
    a3 = mulAdd(t, u, a3);
    b3 = mulAdd(t, v, b3);
    w += stepBytes;
    x += 64;
  } while (x < xEnd);
  const y0 = y + (<usize>row << 6);
  v128.store(y0, a0);
  v128.store(y0, a1, 16);
  v128.store(y0, a2, 32);
  v128.store(y0, a3, 48);
  const y1 = y + (<usize>row1 << 6);
  v128.store(y1, b0);
  v128.store(y1, b1, 16);
  v128.store(y1, b2, 32);
  v128.store(y1, b3, 48);
}

function tile4x2(
  x: usize,
  numSteps: i32,
  w: usize,
  rowBytes: usize,
  stepBytes: usize,
  biases: usize,
  y: usize,
  row: i32,
  lastRow: i32,
): void {
  const row1 = min(row + 1, lastRow);
  const row2 = min(row + 2, lastRow);
  const row3 = min(row + 3, lastRow);
  let a0 = bias(biases, row);
  let a1 = a0;
  let b0 = bias(biases, row1);
  let b1 = b0;
  let c0 = bias(biases, row2);
  let c1 = c0;
  let d0 = bias(biases, row3);
  let d1 = d0;
  let w1 = w + <usize>row1 * rowBytes;
  const toW2 = <usize>(row2 - row1) * rowBytes;
  const toW3 = <usize>(row3 - row1) * rowBytes;
  w += <usize>row * rowBytes;
  const xEnd = x + (<usize>numSteps << 5);
  do {
    const t0 = v128.load(x);
    const t1 = v128.load(x, 16);
    let u = v128.load_splat<f32>(w);
    a0 = mulAdd(t0, u, a0);
    a1 = mulAdd(t1, u, a1);
    u = v128.load_splat<f32>(w1);
    b0 = mulAdd(t0, u, b0);
    b1 = mulAdd(t1, u, b1);
    u = v128.load_splat<f32>(w1 + toW2);
    c0 = mulAdd(t0, u, c0);
    c1 = mulAdd(t1, u, c1);
    u = v128.load_splat<f32>(w1 + toW3);
    d0 = mulAdd(t0, u, d0);
    d1 = mulAdd(t1, u, d1);
    w += stepBytes;
    w1 += stepBytes;
    x += 32;
  } while (x < xEnd);
  v128.store(y + (<usize>row << 5), a0);
  v128.store(y + (<usize>row << 5), a1, 16);
  v128.store(y + (<usize>row1 << 5), b0);
  v128.store(y + (<usize>row1 << 5), b1, 16);
  v128.store(y + (<usize>row2 << 5), c0);
  v128.store(y + (<usize>row2 << 5), c1, 16);
  v128.store(y + (<usize>row3 << 5), d0);
  v128.store(y + (<usize>row3 << 5), d1, 16);
}

function tile8x1(
  x: usize,
  numSteps: i32,
  w: usize,
  rowBytes: usize,
  stepBytes: usize,
  biases: usize,
  y: usize,
  row: i32,
  lastRow: i32,
): void {
  const row1 = min(row + 1, lastRow);
  const row2 = min(row + 2, lastRow);
  const row3 = min(row + 3, lastRow);
  const row4 = min(row + 4, lastRow);
  const row5 = min(row + 5, lastRow);
  const row6 = min(row + 6, lastRow);
  const row7 = min(row + 7, lastRow);
  let a = bias(biases, row);
  let b = bias(biases, row1);
  let c = bias(biases, row2);
  let d = bias(biases, row3);
  let e = bias(biases, row4);
  let f = bias(biases, row5);
  let g = bias(biases, row6);
  let h = bias(biases, row7);
  const to1 = <usize>(row1 - row) * rowBytes;
  const to2 = <usize>(row2 - row) * rowBytes;
  const to3 = <usize>(row3 - row) * rowBytes;
  const to4 = <usize>(row4 - row) * rowBytes;
  const to5 = <usize>(row5 - row) * rowBytes;
  const to6 = <usize>(row6 - row) * rowBytes;
  const to7 = <usize>(row7 - row) * rowBytes;
  w += <usize>row * rowBytes;
  const xEnd = x + (<usize>numSteps << 4);
  do {
    const t = v128.load(x);
    a = mulAdd(t, v128.load_splat<f32>(w), a);
    b = mulAdd(t, v128.load_splat<f32>(w + to1), b);
    c = mulAdd(t, v128.load_splat<f32>(w + to2), c);
    d = mulAdd(t, v128.load_splat<f32>(w + to3), d);
    e = mulAdd(t, v128.load_splat<f32>(w + to4), e);
    f = mulAdd(t, v128.load_splat<f32>(w + to5), f);
    g = mulAdd(t, v128.load_splat<f32>(w + to6), g);
    h = mulAdd(t, v128.load_splat<f32>(w + to7), h);
    w += stepBytes;
    x += 16;
  } while (x < xEnd);
  v128.store(y + (<usize>row << 4), a);
  v128.store(y + (<usize>row1 << 4), b);
  v128.store(y + (<usize>row2 << 4), c);
  v128.store(y + (<usize>row3 << 4), d);
  v128.store(y + (<usize>row4 << 4), e);
  v128.store(y + (<usize>row5 << 4), f);
  v128.store(y + (<usize>row6 << 4), g);
  v128.store(y + (<usize>row7 << 4), h);
}

// @ts-ignore: decorator
@inline
function activateLoop(kind: i32, z: usize, end: usize): void {
  for (; z < end; z += 16) v128.store(z, activate(kind, v128.load(z)));
}

/** z ← f(z), `count` v128. */
export function activateForward(z: usize, count: i32, activation: i32): void {
  const end = z + (<usize>count << 4);
  if (activation == SIGMOID) activateLoop(SIGMOID, z, end);
  else if (activation == TANH) activateLoop(TANH, z, end);
  else if (activation == RELU) activateLoop(RELU, z, end);
}

// @ts-ignore: decorator
@inline
function derivativeLoop(kind: i32, da: usize, a: usize, end: usize): void {
  for (; da < end; da += 16) {
    v128.store(da, f32x4.mul(v128.load(da), derivative(kind, v128.load(a))));
    a += 16;
  }
}

/** da ← da · f′(z), from a = f(z), `count` v128. */
export function activateBackward(da: usize, a: usize, count: i32, activation: i32): void {
  const end = da + (<usize>count << 4);
  if (activation == SIGMOID) derivativeLoop(SIGMOID, da, a, end);
  else if (activation == TANH) derivativeLoop(TANH, da, a, end);
  else if (activation == RELU) derivativeLoop(RELU, da, a, end);
}

/**
 * rows[4g + lane][i] = x[i][g][lane]
 *
 * @param x (numInputs up to a multiple of 4, numGroups) v128
 * @param rows (4·numGroups, numInputs up to a multiple of 4) float32
 */
export function transposeLanes(x: usize, numInputs: i32, numGroups: i32, rows: usize): void {
  const xPitch = <usize>numGroups << 4;
  const rowPitch = <usize>((numInputs + 3) & ~3) << 2;
  for (let g = 0; g < numGroups; g++) {
    let p = x + (<usize>g << 4);
    let row = rows + <usize>(4 * g) * rowPitch;
    for (let i = 0; i < numInputs; i += 4) {
      const a = v128.load(p);
      const b = v128.load(p + xPitch);
      const c = v128.load(p + 2 * xPitch);
      const d = v128.load(p + 3 * xPitch);
      const ab = i32x4.shuffle(a, b, 0, 4, 1, 5);
      const cd = i32x4.shuffle(c, d, 0, 4, 1, 5);
      const abHigh = i32x4.shuffle(a, b, 2, 6, 3, 7);
      const cdHigh = i32x4.shuffle(c, d, 2, 6, 3, 7);
      v128.store(row, i64x2.shuffle(ab, cd, 0, 2));
      v128.store(row + rowPitch, i64x2.shuffle(ab, cd, 1, 3));
      v128.store(row + 2 * rowPitch, i64x2.shuffle(abHigh, cdHigh, 0, 2));
      v128.store(row + 3 * rowPitch, i64x2.shuffle(abHigh, cdHigh, 1, 3));
      p += 4 * xPitch;
      row += 16;
    }
  }
}

/**
 * dw and db of `numImages` images, image after image; `isFirst` overwrites, else they are added to what is there.
 *
 * @param rows (numImages, numInputs up to a multiple of 4) float32
 * @param dz (numOutputs, numGroups) v128
 * @param dw (numOutputs, numInputs) float32
 * @param db (numOutputs,) float32
 */
export function denseBackwardWeights(
  rows: usize,
  numInputs: i32,
  dz: usize,
  numGroups: i32,
  numOutputs: i32,
  numImages: i32,
  dw: usize,
  db: usize,
  isFirst: bool,
): void {
  const rowPitch = <usize>((numInputs + 3) & ~3) << 2;
  const dzPitch = <usize>numGroups << 4;
  const dwPitch = <usize>numInputs << 2;
  const dzBytes = <usize>numImages << 2;
  const zero = f32x4.splat(0.0);
  for (let o = 0; o < numOutputs; o += 2) {
    const isPair = o + 1 < numOutputs;
    const d = dz + <usize>o * dzPitch;
    const dEnd = d + dzBytes;
    const toSecond = isPair ? dzPitch : 0;
    const out = dw + <usize>o * dwPitch;
    const out1 = isPair ? out + dwPitch : out;
    let i: usize = 0;
    for (; i + 64 <= dwPitch; i += 64) {
      const q = out + i;
      const q1 = out1 + i;
      let a0 = isFirst ? zero : v128.load(q);
      let a1 = isFirst ? zero : v128.load(q, 16);
      let a2 = isFirst ? zero : v128.load(q, 32);
      let a3 = isFirst ? zero : v128.load(q, 48);
      let b0 = isFirst ? zero : v128.load(q1);
      let b1 = isFirst ? zero : v128.load(q1, 16);
      let b2 = isFirst ? zero : v128.load(q1, 32);
      let b3 = isFirst ? zero : v128.load(q1, 48);
      let x = rows + i;
      let m = d;
      do {
        const u = v128.load_splat<f32>(m);
        const v = v128.load_splat<f32>(m + toSecond);
        let t = v128.load(x);
        a0 = mulAdd(t, u, a0);
        b0 = mulAdd(t, v, b0);
        t = v128.load(x, 16);
        a1 = mulAdd(t, u, a1);
        b1 = mulAdd(t, v, b1);
        t = v128.load(x, 32);
        a2 = mulAdd(t, u, a2);
        b2 = mulAdd(t, v, b2);
        t = v128.load(x, 48);
        a3 = mulAdd(t, u, a3);
        b3 = mulAdd(t, v, b3);
        x += rowPitch;
        m += 4;
      } while (m < dEnd);
      v128.store(q, a0);
      v128.store(q, a1, 16);
      v128.store(q, a2, 32);
      v128.store(q, a3, 48);
      v128.store(q1, b0);
      v128.store(q1, b1, 16);
      v128.store(q1, b2, 32);
      v128.store(q1, b3, 48);
    }
    for (; i + 16 <= dwPitch; i += 16) {
      const q = out + i;
      const q1 = out1 + i;
      let a = isFirst ? zero : v128.load(q);
      let b = isFirst ? zero : v128.load(q1);
      let x = rows + i;
      let m = d;
      do {
        const t = v128.load(x);
        a = mulAdd(t, v128.load_splat<f32>(m), a);
        b = mulAdd(t, v128.load_splat<f32>(m + toSecond), b);
        x += rowPitch;
        m += 4;
      } while (m < dEnd);
      v128.store(q, a);
      v128.store(q1, b);
    }
    for (; i < dwPitch; i += 4) {
      let a: f32 = isFirst ? 0 : load<f32>(out + i);
      let b: f32 = isFirst ? 0 : load<f32>(out1 + i);
      let x = rows + i;
      let m = d;
      do {
        const t = load<f32>(x);
        a += t * load<f32>(m);
        b += t * load<f32>(m + toSecond);
        x += rowPitch;
        m += 4;
      } while (m < dEnd);
      store<f32>(out + i, a);
      store<f32>(out1 + i, b);
    }
  }
  for (let o = 0; o < numOutputs; o++) {
    let sum: f32 = isFirst ? 0 : load<f32>(db);
    for (let m: usize = 0; m < dzBytes; m += 4) sum += load<f32>(dz + m);
    store<f32>(db, sum);
    dz += dzPitch;
    db += 4;
  }
}
