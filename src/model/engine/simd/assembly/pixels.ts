/**
 * Bytes to lanes.
 *
 *   images (count, 784) bytes, row-major  →  x (1, W, W) of v128, W = 28 + 2·padding; x = byte / 255
 *
 * One v128 holds the same pixel of four images. Lanes past `count` repeat the last image: their gradient is zeroed
 * at the loss, and they cannot overflow where no real image does. The border is zero from the start and stays so.
 */
const SIZE: usize = 28;
const IMAGE_BYTES: usize = 784;

// @ts-ignore: decorator
@inline
function store(x: usize, pixels: v128): void {
  v128.store(x, f32x4.div(f32x4.convert_i32x4_s(pixels), f32x4.splat(255.0)));
}

export function loadPixels(images: usize, count: i32, x: usize, padding: i32): void {
  const last = images + <usize>(count - 1) * IMAGE_BYTES;
  let p0 = images;
  let p1 = min(p0 + IMAGE_BYTES, last);
  let p2 = min(p1 + IMAGE_BYTES, last);
  let p3 = min(p2 + IMAGE_BYTES, last);
  const border = <usize>padding * 16;
  const zero = i32x4.splat(0);
  x += (SIZE + 2 * <usize>padding) * border + border;
  for (let row: usize = 0; row < SIZE; row++) {
    for (let quad: usize = 0; quad < SIZE; quad += 4) {
      const b = v128.load32_lane(
        p3,
        v128.load32_lane(p2, v128.load32_lane(p1, v128.load32_zero(p0), 1), 2),
        3,
      );
      store(x, i8x16.shuffle(b, zero, 0, 16, 16, 16, 4, 16, 16, 16, 8, 16, 16, 16, 12, 16, 16, 16));
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
    x += 2 * border;
  }
}
