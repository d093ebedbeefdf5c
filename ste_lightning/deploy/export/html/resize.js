// Pictures of bytes in another size, as Pillow makes them: each axis by itself, every pixel a
// weighted mean whose weights are whole parts of 2^22, rounded to bytes in between.

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const FILTERS = { // half their width, and the weight at a distance
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const d = Math.abs(x), a = -0.5;
    if (d >= 2) return 0;
    return d < 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : (((d - 5) * d + 8) * d - 4) * a;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

const WHOLE = 1 << 22;

// For each of `made` pixels the first of `has` that it is made of, and the weights from there.
function weightsOf(has, made, [support, weight]) {
  const scale = has / made, spread = Math.max(scale, 1), reach = support * spread;
  return Array.from({ length: made }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5)), end = Math.min(has, Math.trunc(center + reach + 0.5));
    const found = Array.from({ length: end - first }, (_, k) => weight((k + first - center + 0.5) / spread));
    const total = found.reduce((sum, w) => sum + w, 0);
    return { first, parts: found.map((w) => Math.trunc((w / total) * WHOLE + (w < 0 ? -0.5 : 0.5))) };
  });
}

// A picture {width, height, data} of one channel in another size.
function resized(picture, width, height, interpolation) {
  if (interpolation === "nearest") return nearest(picture, width, height);
  const filter = FILTERS[interpolation];
  return acrossRows(acrossColumns(picture, width, filter), height, filter);
}

const byte = (sum) => Math.min(255, Math.max(0, (sum + WHOLE / 2) >> 22));

function acrossColumns(picture, width, filter) {
  if (width === picture.width) return picture;
  const data = new Uint8Array(width * picture.height);
  weightsOf(picture.width, width, filter).forEach(({ first, parts }, x) => {
    for (let y = 0; y < picture.height; y++) {
      const at = y * picture.width + first;
      data[y * width + x] = byte(parts.reduce((sum, part, k) => sum + part * picture.data[at + k], 0));
    }
  });
  return { width, height: picture.height, data };
}

function acrossRows(picture, height, filter) {
  if (height === picture.height) return picture;
  const { width } = picture, data = new Uint8Array(width * height);
  weightsOf(picture.height, height, filter).forEach(({ first, parts }, y) => {
    for (let x = 0; x < width; x++) {
      data[y * width + x] = byte(parts.reduce((sum, part, k) => sum + part * picture.data[(first + k) * width + x], 0));
    }
  });
  return { width, height, data };
}

function nearest(picture, width, height) {
  const from = (i, made, has) => Math.min(has - 1, Math.floor((i + 0.5) * (has / made)));
  const data = Uint8Array.from({ length: width * height }, (_, i) => {
    const x = from(i % width, width, picture.width), y = from(Math.floor(i / width), height, picture.height);
    return picture.data[y * picture.width + x];
  });
  return { width, height, data };
}
