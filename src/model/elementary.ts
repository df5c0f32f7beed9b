/**
 * exp, log, cos and friends from + − × ÷ alone, in float64: the same bits on every host, which `Math.exp` etc.
 * do not guarantee. Within 1e-13 (relative) of the true values. Readable rather than fast; the SIMD engine has its own in
 * float32.
 */

const LN2 = 0.6931471805599453;
/** ln 2 in two parts, the first with its low 32 bits zero: k · LN2_HIGH is without error for |k| < 2²⁰. */
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

/** eˣ = 2ᵏ·eʳ with |r| ≤ ln 2 / 2, eʳ as its Taylor series up to r¹⁴. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (x > 709.79) return Infinity;
  if (x < -745.2) return 0;
  const k = Math.round(x / LN2);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  let sum = 1;
  for (let n = 14; n >= 1; n--) sum = 1 + (sum * r) / n;
  // In two factors, for each to stay a normal number.
  const half = Math.floor(k / 2);
  return sum * powerOf2(half) * powerOf2(k - half);
}

/** ln x = k·ln 2 + 2·artanh(s) with s = (m − 1) / (m + 1), x = 2ᵏ·m and m in [√½, √2). */
export function log(x: number): number {
  if (Number.isNaN(x) || x < 0) return NaN;
  if (x === 0) return -Infinity;
  if (x === Infinity) return Infinity;
  let [k, m] = splitFloat(x);
  if (m >= Math.SQRT2) {
    m /= 2;
    k += 1;
  }
  const s = (m - 1) / (m + 1);
  const square = s * s;
  let sum = 0;
  for (let n = 25; n >= 1; n -= 2) sum = 1 / n + sum * square;
  return k * LN2_HIGH + (2 * s * sum + k * LN2_LOW);
}

export function sigmoid(x: number): number {
  return 1 / (1 + exp(-x));
}

export function tanh(x: number): number {
  const e = exp(-2 * Math.abs(x));
  const magnitude = (1 - e) / (1 + e);
  return x < 0 ? -magnitude : magnitude;
}

/** cos(πx) for x in [0, 1], from the Taylor series of sine and cosine up to π/4. */
export function cosPi(x: number): number {
  if (x > 0.5) return -cosPi(1 - x);
  const isSine = x > 0.25;
  const y = Math.PI * (isSine ? 0.5 - x : x);
  const square = y * y;
  let sum = 1;
  const last = isSine ? 19 : 18;
  for (let n = last; n >= 2; n -= 2) sum = 1 - (sum * square) / (n * (n - 1));
  return isSine ? y * sum : sum;
}

const view = new DataView(new ArrayBuffer(8));

/** 2ᵏ for −1022 ≤ k ≤ 1023. */
function powerOf2(k: number): number {
  view.setUint32(0, (k + 1023) << 20);
  view.setUint32(4, 0);
  return view.getFloat64(0);
}

/** [k, m] with x = 2ᵏ·m, 1 ≤ m < 2, for finite x > 0. */
function splitFloat(x: number): [number, number] {
  if (x < 2.2250738585072014e-308) {
    const [k, m] = splitFloat(x * 2 ** 54);
    return [k - 54, m];
  }
  view.setFloat64(0, x);
  const high = view.getUint32(0);
  view.setUint32(0, (high & 0x000fffff) | 0x3ff00000);
  return [(high >>> 20) - 1023, view.getFloat64(0)];
}
