// Which pixels an output is made of. All products here read [pixel][channel]: a row of numbers is
// one pixel, and its product a convolution of one tap.

const MOST_NUMBERS = 1 << 26; // in one array

function room(Type, length) {
  ensure(length <= MOST_NUMBERS, `it would need an array of ${length} numbers`);
  return new Type(length);
}

// A window over an image: source[pixel * taps + tap] is the pixel that is read, -1 for padding.
function imageWindow(height, width, { kernel, stride, padding, dilation }) {
  const size = [height, width].map((n, axis) => {
    const [before, after] = padding[axis];
    return Math.floor((n + before + after - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis]) + 1;
  });
  ensure(size[0] > 0 && size[1] > 0, "its picture is smaller than a kernel");
  const taps = kernel[0] * kernel[1];
  const source = room(Int32Array, size[0] * size[1] * taps);
  let at = 0;
  for (let y = 0; y < size[0]; y++) {
    for (let x = 0; x < size[1]; x++) {
      for (let i = 0; i < kernel[0]; i++) {
        for (let j = 0; j < kernel[1]; j++) {
          const row = y * stride[0] - padding[0][0] + i * dilation[0];
          const column = x * stride[1] - padding[1][0] + j * dilation[1];
          const inside = row >= 0 && row < height && column >= 0 && column < width;
          source[at++] = inside ? row * width + column : -1;
        }
      }
    }
  }
  return { taps, source, size, pixels: size[0] * size[1] };
}

function rowWindow(rows) {
  return { taps: 1, source: Int32Array.from({ length: rows }, (_, i) => i), size: [rows, 1], pixels: rows };
}
