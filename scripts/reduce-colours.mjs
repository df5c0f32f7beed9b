/**
 * A PNG with a palette from one without: the commonest colours as they are, so that areas keep theirs, the rest by
 * median cut (Heckbert, Color image quantization for frame buffer display, 1982).
 */
import { decode, encode } from 'fast-png';

const NUM_EXACT = 56;
const NUM_CUT = 200;

/** @param {Uint8Array} png 8 bits a channel, RGB or RGBA without transparency */
export function reduceColours(png) {
  const { width, height, data, channels } = decode(png);
  const colorAt = (pixel) => {
    const from = pixel * channels;
    return (data[from] << 16) | (data[from + 1] << 8) | data[from + 2];
  };
  const counts = new Map();
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const color = colorAt(pixel);
    counts.set(color, (counts.get(color) ?? 0) + 1);
  }
  const common = [...counts].sort((a, b) => b[1] - a[1]);
  const exact = common.slice(0, NUM_EXACT).map(([color]) => channelsOf(color));
  const rest = common.slice(NUM_EXACT).map(([color, count]) => [channelsOf(color), count]);
  const palette = [...exact, ...medianCut(rest, NUM_CUT)];
  const indices = new Map();
  for (const color of counts.keys()) indices.set(color, nearest(palette, channelsOf(color)));
  const indexed = Uint8Array.from({ length: width * height }, (_, pixel) =>
    indices.get(colorAt(pixel)),
  );
  return encode(
    { width, height, data: indexed, depth: 8, channels: 1, palette },
    { zlib: { level: 9 } },
  );
}

function channelsOf(color) {
  return [color >> 16, (color >> 8) & 255, color & 255];
}

/** At most `count` colours for those given, each with its number of pixels. */
function medianCut(colors, count) {
  if (colors.length === 0) return [];
  const boxes = [colors];
  while (boxes.length < count) {
    const spreads = boxes.map(spreadOf);
    const at = spreads.reduce(
      (best, { size }, index) => (size > spreads[best].size ? index : best),
      0,
    );
    if (spreads[at].size === 0) break;
    const { channel } = spreads[at];
    const [box] = boxes.splice(at, 1);
    box.sort((a, b) => a[0][channel] - b[0][channel]);
    const half = Math.max(1, Math.floor(box.length / 2));
    boxes.push(box.slice(0, half), box.slice(half));
  }
  return boxes.map((box) => {
    const pixels = box.reduce((sum, [, n]) => sum + n, 0);
    return [0, 1, 2].map((channel) =>
      Math.round(box.reduce((sum, [color, n]) => sum + color[channel] * n, 0) / pixels),
    );
  });
}

function spreadOf(box) {
  const sizes = [0, 1, 2].map((channel) => {
    const values = box.map(([color]) => color[channel]);
    return values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  });
  const size = Math.max(...sizes);
  return { size: box.length > 1 ? size : 0, channel: sizes.indexOf(size) };
}

function nearest(palette, [red, green, blue]) {
  let [best, at] = [Infinity, 0];
  palette.forEach(([r, g, b], index) => {
    const distance = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    if (distance < best) [best, at] = [distance, index];
  });
  return at;
}
