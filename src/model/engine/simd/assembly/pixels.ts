/**
 * Bytes to lanes.
 *
 *   images (count, C, H, W) bytes  →  x (C, H + 2·padding, W + 2·padding) of v128; x = byte / 255
 *
 * One v128 holds the same value of four images. Lanes past `count` repeat the last image: their gradient is zeroed
 * at the loss, and they cannot overflow where no real image does. The border is zero from the start and stays so.
 */

// @ts-ignore: decorator
@inline
function store(x: usize, pixels: v128): void {
  v128.store(x, f32x4.div(f32x4.convert_i32x4_s(pixels), f32x4.splat(255.0)));
}

export function loadPixels(
  images: usize,
  count: i32,
  channels: i32,
  height: i32,
  width: i32,
  x: usize,
  padding: i32,
): void {
  const imageBytes = <usize>(channels * height * width);
  const last = images + <usize>(count - 1) * imageBytes;
  let p0 = images;
  let p1 = min(p0 + imageBytes, last);
  let p2 = min(p1 + imageBytes, last);
  let p3 = min(p2 + imageBytes, last);
  const border = <usize>padding << 4;
  const rowBorder = border * <usize>(width + 2 * padding);
  const zero = i32x4.splat(0);
  for (let channel = 0; channel < channels; channel++) {
    x += rowBorder + border;
    for (let row = 0; row < height; row++) {
      let column = 0;
      for (; column + 4 <= width; column += 4) {
        const b = v128.load32_lane(
          p3,
          v128.load32_lane(p2, v128.load32_lane(p1, v128.load32_zero(p0), 1), 2),
          3,
        );
        store(
          x,
          i8x16.shuffle(b, zero, 0, 16, 16, 16, 4, 16, 16, 16, 8, 16, 16, 16, 12, 16, 16, 16),
        );
        store(
          x + 16,
          i8x16.shuffle(b, zero, 1, 16, 16, 16, 5, 16, 16, 16, 9, 16, 16, 16, 13, 16, 16, 16),
        );
        store(
          x + 32,
          i8x16.shuffle(b, zero, 2, 16, 16, 16, 6, 16, 16, 16, 10, 16, 16, 16, 14, 16, 16, 16),
        );
        store(
          x + 48,
          i8x16.shuffle(b, zero, 3, 16, 16, 16, 7, 16, 16, 16, 11, 16, 16, 16, 15, 16, 16, 16),
        );
        p0 += 4;
        p1 += 4;
        p2 += 4;
        p3 += 4;
        x += 64;
      }
      for (; column < width; column++) {
        store(x, i32x4(load<u8>(p0++), load<u8>(p1++), load<u8>(p2++), load<u8>(p3++)));
        x += 16;
      }
      x += 2 * border;
    }
    x += rowBorder - border;
  }
}
