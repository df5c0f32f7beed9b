/** What a browser needs to be a worker, and its name. */

export interface Check {
  readonly name: string;
  readonly isMet: boolean;
  /** What to do, or what is so. */
  readonly note: string;
}

/** `v128.const` and `i8x16.popcnt`, which only engines with SIMD take for valid. */
const SIMD = Uint8Array.from([
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
]);
/** That one thread must get, bytes: room for the samples of MNIST and the engine. */
const NEEDED_BYTES = 128e6;
/** Where the browser does not say how much the machine has. */
const ASSUMED_BYTES = 2e9;

/** Memory that all threads together may take, bytes: half of the machine's, as far as the browser tells. */
export function memoryBudgetBytes(): number {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return deviceMemory === undefined ? ASSUMED_BYTES : (deviceMemory * 1e9) / 2;
}

/** What without which nothing goes. */
export function preflight(): readonly Check[] {
  const hasWasm = typeof WebAssembly === 'object';
  return [
    {
      name: 'WebAssembly SIMD',
      isMet: hasWasm && WebAssembly.validate(SIMD),
      note: 'it computes the gradients: Chrome 91, Firefox 89 or Safari 16.4, on a processor with SIMD, have it',
    },
    {
      name: 'WebSocket and threads',
      isMet: typeof WebSocket === 'function' && typeof Worker === 'function',
      note: 'a protected mode or an extension may have taken them away',
    },
    {
      name: 'Memory',
      isMet: hasWasm && canAllocate(),
      note: `${NEEDED_BYTES / 1e6} MB must be free: close other tabs`,
    },
  ];
}

function canAllocate(): boolean {
  try {
    return new ArrayBuffer(NEEDED_BYTES).byteLength === NEEDED_BYTES;
  } catch {
    return false;
  }
}

/** Such as `Firefox 153 on Android`; for people. */
export function browserName(userAgent = navigator.userAgent): string {
  return `${match(BROWSERS, userAgent) ?? 'a browser'} on ${match(SYSTEMS, userAgent) ?? 'an unknown system'}`;
}

/** In this order, as most call themselves by the names of others too. */
const BROWSERS: readonly (readonly [RegExp, string])[] = [
  [/(?:Edg|EdgA|EdgiOS)\/(\d+)/, 'Edge'],
  [/(?:Firefox|FxiOS)\/(\d+)/, 'Firefox'],
  [/SamsungBrowser\/(\d+)/, 'Samsung Internet'],
  [/(?:Chrome|HeadlessChrome|CriOS)\/(\d+)/, 'Chrome'],
  [/Version\/(\d+).*Safari/, 'Safari'],
  [/AppleWebKit\/(\d+)/, 'WebKit'],
];
const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/Android/, 'Android'],
  [/iPhone/, 'iPhone'],
  [/iPad/, 'iPad'],
  [/CrOS/, 'ChromeOS'],
  [/Windows/, 'Windows'],
  [/Mac OS X/, 'macOS'],
  [/Linux|X11/, 'Linux'],
];

function match(names: readonly (readonly [RegExp, string])[], text: string): string | null {
  for (const [pattern, name] of names) {
    const found = pattern.exec(text);
    if (found) return found.at(1) === undefined ? name : `${name} ${found[1]}`;
  }
  return null;
}
