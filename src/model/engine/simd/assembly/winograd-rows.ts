/**
 * Winograd's F(4, 5) along the rows, for convolutions of one channel with 5×5 kernels and stride 1, forward and for the
 * weights: 8 multiplications for the 20 of four outputs and one row of a kernel.
 *
 *   z[o][y][4t … 4t+3] = b[o] + Aᵀ Σ_i (G w[o][i]) ⊙ (Bᵀ x[y+i][4t … 4t+7])
 *   dM = A dz      dU[o][i] = Σ_(y,t) dM[o][y][t] ⊙ V[y+i][t],   dw[o][i] = Gᵀ dU[o][i]
 *
 * One channel leaves too little to sum up for tiles in both directions (winograd.ts), where the transforms would cost what
 * they save. Points 0, ±1, ±2, ±½, ∞. The weights are transformed in float64 and rounded once.
 *
 *   q = y·numTiles + t counts tiles; positions q·4 … q·4+3 of z are those of tile q
 *   V    (8, rows, numTiles) v128, one group; the row below is numTiles further on
 *   U    (O/2, 8, 5, 2) float32, O padded to a multiple of 2 with zeros
 *   dM   (8, O, numQ) v128
 *   dU   (8, O, 5) v128, lane by lane, over all chunks of a call
 */
import { add, mulAdd, scale, sub, sumLanes } from './math';
import { product2x4 } from './product';

/**
 * V ← Bᵀ of every eight pixels, four further each time.
 *
 * @param input (rows, width) v128
 */
export function rowsInput(
  input: usize,
  width: i32,
  rows: i32,
  numTiles: i32,
  v: usize,
): void {
  const pointBytes = <usize>(rows * numTiles) << 4;
  for (let y = 0; y < rows; y++) {
    let x = input + (<usize>(y * width) << 4);
    for (let t = 0; t < numTiles; t++) {
      const d1 = v128.load(x, 16);
      const d2 = v128.load(x, 32);
      const d3 = v128.load(x, 48);
      const d4 = v128.load(x, 64);
      const d5 = v128.load(x, 80);
      const d6 = v128.load(x, 96);
      v128.store(v, add(sub(d6, v128.load(x)), scale(sub(d2, d4), 5.25)));
      let even = sub(add(d6, d2), scale(d4, 4.25));
      let odd = sub(add(d5, d1), scale(d3, 4.25));
      let to = v + pointBytes;
      v128.store(to, add(even, odd));
      to += pointBytes;
      v128.store(to, sub(even, odd));
      even = add(sub(d6, scale(d4, 1.25)), scale(d2, 0.25));
      odd = add(sub(scale(d5, 2.0), scale(d3, 2.5)), scale(d1, 0.5));
      to += pointBytes;
      v128.store(to, add(even, odd));
      to += pointBytes;
      v128.store(to, sub(even, odd));
      even = add(sub(d6, scale(d4, 5.0)), scale(d2, 4.0));
      odd = add(sub(scale(d5, 0.5), scale(d3, 2.5)), scale(d1, 2.0));
      to += pointBytes;
      v128.store(to, add(even, odd));
      to += pointBytes;
      v128.store(to, sub(even, odd));
      to += pointBytes;
      v128.store(to, add(sub(v128.load(x, 112), d1), scale(sub(d3, d5), 5.25)));
      x += 64;
      v += 16;
    }
  }
}

/**
 * z of one group.
 *
 * @param z (outputs, numQ, 4) v128
 * @param numQ a multiple of 4
 * @param temp (8, 2, 4) v128
 */
export function rowsForward(
  v: usize,
  rows: i32,
  numTiles: i32,
  u: usize,
  biases: usize,
  outputs: i32,
  z: usize,
  numQ: i32,
  temp: usize,
): void {
  const pitch = <usize>numTiles << 4;
  const pointBytes = pitch * rows;
  const outBytes = <usize>numQ << 6;
  for (let o = 0; o < outputs; o += 2) {
    const isPair = o + 1 < outputs;
    const bias0 = v128.load_splat<f32>(biases);
    const bias1 = v128.load_splat<f32>(isPair ? biases + 4 : biases);
    for (let q = 0; q < numQ; q += 4) {
      let x = v + (<usize>q << 4);
      let w = u;
      let to = temp;
      for (let point = 0; point < 8; point++) {
        product2x4(x, x + 5 * pitch, pitch, w, to, to + 64);
        w += 40;
        x += pointBytes;
        to += 128;
      }
      // Aᵀ; the bias comes in at the point 1, where every output takes part once.
      let bias = bias0;
      let out = z + (<usize>q << 6);
      for (let from = temp; from < temp + 128; from += 16) {
        if (from == temp + 64) {
          if (!isPair) break;
          out += outBytes - 256;
          bias = bias1;
        }
        const m1 = add(v128.load(from, 128), bias);
        const m2 = v128.load(from, 256);
        const m3 = v128.load(from, 384);
        const m4 = v128.load(from, 512);
        const m5 = v128.load(from, 640);
        const m6 = v128.load(from, 768);
        const s1 = add(m1, m2);
        const s2 = add(m3, m4);
        const s3 = add(m5, m6);
        v128.store(out, add(add(v128.load(from), s1), add(s2, s3)));
        v128.store(out, add(s1, add(scale(s2, 4.0), scale(s3, 0.25))), 32);
        const p1 = sub(m1, m2);
        const p2 = sub(m3, m4);
        const p3 = sub(m5, m6);
        v128.store(out, add(p1, add(scale(p2, 2.0), scale(p3, 0.5))), 16);
        const high = add(scale(p2, 8.0), scale(p3, 0.125));
        v128.store(out, add(add(p1, high), v128.load(from, 896)), 48);
        out += 64;
      }
    }
    u += 320;
    z += 2 * outBytes;
    biases += 8;
  }
}

/**
 * dM ← A dz.
 *
 * @param dz (outputs, numQ, 4) v128
 */
export function rowsOutputBackward(dz: usize, outputs: i32, numQ: i32, dm: usize): void {
  const pointBytes = <usize>(outputs * numQ) << 4;
  const end = dm + pointBytes;
  while (dm < end) {
    const z0 = v128.load(dz);
    const z1 = v128.load(dz, 16);
    const z2 = v128.load(dz, 32);
    const z3 = v128.load(dz, 48);
    v128.store(dm, z0);
    let even = add(z0, z2);
    let odd = add(z1, z3);
    let to = dm + pointBytes;
    v128.store(to, add(even, odd));
    to += pointBytes;
    v128.store(to, sub(even, odd));
    even = add(z0, scale(z2, 4.0));
    odd = add(scale(z1, 2.0), scale(z3, 8.0));
    to += pointBytes;
    v128.store(to, add(even, odd));
    to += pointBytes;
    v128.store(to, sub(even, odd));
    even = add(z0, scale(z2, 0.25));
    odd = add(scale(z1, 0.5), scale(z3, 0.125));
    to += pointBytes;
    v128.store(to, add(even, odd));
    to += pointBytes;
    v128.store(to, sub(even, odd));
    to += pointBytes;
    v128.store(to, z3);
    dz += 64;
    dm += 16;
  }
}

/** dU ← dU + Σ_q dM ⊙ V, of one group. */
export function rowsWeightProduct(
  dm: usize,
  outputs: i32,
  numQ: i32,
  v: usize,
  rows: i32,
  numTiles: i32,
  du: usize,
): void {
  const pitch = <usize>numTiles << 4;
  const dmPitch = <usize>numQ << 4;
  for (let point = 0; point < 8; point++) {
    // Rows 0 … 3 of the kernels, two outputs at a time; then row 4, six outputs at a time.
    for (let o = 0; o < outputs; o += 2) {
      const toSecond = o + 1 < outputs ? dmPitch : 0;
      let d = dm + <usize>o * dmPitch;
      const dEnd = d + dmPitch;
      const sum0 = du + <usize>o * 80;
      const sum1 = o + 1 < outputs ? sum0 + 80 : sum0;
      let a0 = v128.load(sum0);
      let a1 = v128.load(sum0, 16);
      let a2 = v128.load(sum0, 32);
      let a3 = v128.load(sum0, 48);
      let b0 = v128.load(sum1);
      let b1 = v128.load(sum1, 16);
      let b2 = v128.load(sum1, 32);
      let b3 = v128.load(sum1, 48);
      let x = v;
      do {
        const r = v128.load(d);
        const s = v128.load(d + toSecond);
        let t = v128.load(x);
        a0 = mulAdd(t, r, a0);
        b0 = mulAdd(t, s, b0);
        t = v128.load(x + pitch);
        a1 = mulAdd(t, r, a1);
        b1 = mulAdd(t, s, b1);
        t = v128.load(x + 2 * pitch);
        a2 = mulAdd(t, r, a2);
        b2 = mulAdd(t, s, b2);
        t = v128.load(x + 3 * pitch);
        a3 = mulAdd(t, r, a3);
        b3 = mulAdd(t, s, b3);
        x += 16;
        d += 16;
      } while (d < dEnd);
      v128.store(sum0, a0);
      v128.store(sum0, a1, 16);
      v128.store(sum0, a2, 32);
      v128.store(sum0, a3, 48);
      v128.store(sum1, b0);
      v128.store(sum1, b1, 16);
      v128.store(sum1, b2, 32);
      v128.store(sum1, b3, 48);
    }
    for (let o = 0; o < outputs; o += 6) {
      const o1 = min(o + 1, outputs - 1);
      const o2 = min(o + 2, outputs - 1);
      const o3 = min(o + 3, outputs - 1);
      const o4 = min(o + 4, outputs - 1);
      const o5 = min(o + 5, outputs - 1);
      const sums = du + 64;
      let a = v128.load(sums + <usize>o * 80);
      let b = v128.load(sums + <usize>o1 * 80);
      let c = v128.load(sums + <usize>o2 * 80);
      let e = v128.load(sums + <usize>o3 * 80);
      let f = v128.load(sums + <usize>o4 * 80);
      let g = v128.load(sums + <usize>o5 * 80);
      let d = dm + <usize>o * dmPitch;
      const dEnd = d + dmPitch;
      const to1 = <usize>(o1 - o) * dmPitch;
      const to2 = <usize>(o2 - o) * dmPitch;
      const to3 = <usize>(o3 - o) * dmPitch;
      const to4 = <usize>(o4 - o) * dmPitch;
      const to5 = <usize>(o5 - o) * dmPitch;
      let x = v + 4 * pitch;
      do {
        const t = v128.load(x);
        a = mulAdd(t, v128.load(d), a);
        b = mulAdd(t, v128.load(d + to1), b);
        c = mulAdd(t, v128.load(d + to2), c);
        e = mulAdd(t, v128.load(d + to3), e);
        f = mulAdd(t, v128.load(d + to4), f);
        g = mulAdd(t, v128.load(d + to5), g);
        x += 16;
        d += 16;
      } while (d < dEnd);
      v128.store(sums + <usize>o * 80, a);
      v128.store(sums + <usize>o1 * 80, b);
      v128.store(sums + <usize>o2 * 80, c);
      v128.store(sums + <usize>o3 * 80, e);
      v128.store(sums + <usize>o4 * 80, f);
      v128.store(sums + <usize>o5 * 80, g);
    }
    dm += dmPitch * outputs;
    du += <usize>outputs * 80;
    v += pitch * rows;
  }
}

/** 1 / Π_j≠i (α_i − α_j) for 0, ±1, ±2, ±½. */
const N0: f64 = -1.0;
const N1: f64 = -1.0 / 4.5;
const N2: f64 = 1.0 / 90.0;
const NH: f64 = 1.0 / 1.40625;

/**
 * U ← G w, in float64, rounded once.
 *
 * @param w (outputs, 5, 5) float32
 */
export function rowsWeights(w: usize, outputs: i32, u: usize): void {
  for (let o = 0; o < outputs; o++) {
    let to = u + <usize>(o >> 1) * 320 + (<usize>(o & 1) << 2);
    for (let i = 0; i < 5; i++) {
      const g0 = <f64>load<f32>(w);
      const g1 = <f64>load<f32>(w, 4);
      const g2 = <f64>load<f32>(w, 8);
      const g3 = <f64>load<f32>(w, 12);
      const g4 = <f64>load<f32>(w, 16);
      store<f32>(to, <f32>(g0 * N0));
      let even = (g0 + g2 + g4) * N1;
      let odd = (g1 + g3) * N1;
      store<f32>(to, <f32>(even + odd), 40);
      store<f32>(to, <f32>(even - odd), 80);
      even = (g0 + 4.0 * g2 + 16.0 * g4) * N2;
      odd = (2.0 * g1 + 8.0 * g3) * N2;
      store<f32>(to, <f32>(even + odd), 120);
      store<f32>(to, <f32>(even - odd), 160);
      even = (g0 + 0.25 * g2 + 0.0625 * g4) * NH;
      odd = (0.5 * g1 + 0.125 * g3) * NH;
      store<f32>(to, <f32>(even + odd), 200);
      store<f32>(to, <f32>(even - odd), 240);
      store<f32>(to, <f32>g4, 280);
      to += 8;
      w += 20;
    }
  }
}

/**
 * dw ← Gᵀ dU, in float64, rounded once.
 *
 * @param dw (outputs, 5, 5) float32
 */
export function rowsWeightsBackward(du: usize, outputs: i32, dw: usize): void {
  const pointBytes = <usize>outputs * 80;
  const end = du + pointBytes;
  while (du < end) {
    let from = du;
    const u0 = <f64>sumLanes(v128.load(from)) * N0;
    from += pointBytes;
    let plus = <f64>sumLanes(v128.load(from)) * N1;
    from += pointBytes;
    let minus = <f64>sumLanes(v128.load(from)) * N1;
    const even1 = plus + minus;
    const odd1 = plus - minus;
    from += pointBytes;
    plus = <f64>sumLanes(v128.load(from)) * N2;
    from += pointBytes;
    minus = <f64>sumLanes(v128.load(from)) * N2;
    const even2 = plus + minus;
    const odd2 = plus - minus;
    from += pointBytes;
    plus = <f64>sumLanes(v128.load(from)) * NH;
    from += pointBytes;
    minus = <f64>sumLanes(v128.load(from)) * NH;
    const evenH = plus + minus;
    const oddH = plus - minus;
    from += pointBytes;
    const u7 = <f64>sumLanes(v128.load(from));
    store<f32>(dw, <f32>(u0 + even1 + even2 + evenH));
    store<f32>(dw, <f32>(odd1 + 2.0 * odd2 + 0.5 * oddH), 4);
    store<f32>(dw, <f32>(even1 + 4.0 * even2 + 0.25 * evenH), 8);
    store<f32>(dw, <f32>(odd1 + 8.0 * odd2 + 0.125 * oddH), 12);
    store<f32>(dw, <f32>(even1 + 16.0 * even2 + 0.0625 * evenH + u7), 16);
    dw += 20;
    du += 16;
  }
}
