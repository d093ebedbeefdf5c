// Float layers: products, batch norm, pooling. One sample at a time, channels on axis 1.

const pair = (value) => (Array.isArray(value) ? (value.length === 1 ? [value[0], value[0]] : value) : [value, value]);

function checkedPair(value, low, what) {
  const found = pair(value);
  ensure(found.length === 2 && found.every((n) => isSize(n) && n >= low && n <= 4096), `it has no sound ${what}`);
  return found;
}

function linear(x, weight, bias = null) {
  const outputs = weight.shape[0], channels = weight.shape[1];
  ensure(weight.shape.length === 2 && x.shape.at(-1) === channels && (!bias || bias.data.length === outputs), "its sizes do not fit");
  const shape = [...x.shape.slice(0, -1), outputs], rows = count(x.shape) / channels;
  const data = room(Float32Array, count(shape)), sums = new Float64Array(outputs);
  const sum = floatSums(x.data, weight.data, rowWindow(rows), channels, outputs, 1, null);
  const run = () => {
    for (let row = 0; row < rows; row++) {
      sum(row, sums);
      for (let o = 0; o < outputs; o++) data[row * outputs + o] = sums[o] + (bias ? bias.data[o] : 0);
    }
  };
  return { shape, data, run };
}

function conv2d(x, weight, bias = null, stride = 1, padding = 0, dilation = 1, groups = 1) {
  ensure(weight.constant && weight.shape.length === 4 && x.shape.length === 4, "it is not called with a picture and constant weights");
  ensure(isSize(groups) && groups > 0, "it has no sound groups");
  const [outputs, width, ...kernel] = weight.shape, channels = width * groups, [, has, height, wide] = x.shape;
  ensure(has === channels && outputs % groups === 0 && (!bias || bias.data.length === outputs), "its sizes do not fit");
  const pads = checkedPair(padding, 0, "padding").map((n) => [n, n]);
  const geometry = { kernel, padding: pads, stride: checkedPair(stride, 1, "stride"), dilation: checkedPair(dilation, 1, "dilation") };
  const window = imageWindow(height, wide, geometry), places = { channels, nextPixel: 1, nextChannel: height * wide };
  const read = room(Float32Array, x.data.length), sums = new Float64Array(outputs);
  const weights = tapsFirst(weight.data, weight.shape), outside = new Float64Array(outputs * window.taps);
  const sum = floatSums(read, weights, window, channels, outputs, groups, outside);
  const data = room(Float32Array, outputs * window.pixels);
  const run = () => {
    arranged(x.data, places, read, (value) => value);
    for (let pixel = 0; pixel < window.pixels; pixel++) {
      sum(pixel, sums);
      for (let o = 0; o < outputs; o++) data[o * window.pixels + pixel] = sums[o] + (bias ? bias.data[o] : 0);
    }
  };
  return { shape: [1, outputs, ...window.size], data, run };
}

function batchNorm(x, weight, bias, mean, variance, training, momentum, eps) {
  const channels = x.shape[1], constants = [weight, bias, mean, variance].filter(Boolean);
  ensure(training === false && mean && variance && eps >= 0, "it is called as in training");
  ensure(constants.every((one) => one.constant && one.data.length === channels), "its sizes do not fit");
  const factor = Float32Array.from(variance.data, (v, c) => (
    (weight ? weight.data[c] : 1) * Math.fround(1 / Math.fround(Math.sqrt(Math.fround(v + Math.fround(eps)))))));
  const offset = Float32Array.from(mean.data, (m, c) => (bias ? bias.data[c] : 0) - Math.fround(m * factor[c]));
  const data = room(Float32Array, x.data.length), inner = data.length / x.shape[0] / channels;
  const run = () => {
    for (let at = 0, c = 0; at < data.length; c = (c + 1) % channels) {
      for (let end = at + inner; at < end; at++) data[at] = Math.fround(x.data[at] * factor[c]) + offset[c];
    }
  };
  return { shape: x.shape, data, run };
}

// Windows of a pooling, and what it makes of the numbers in one.
function pooled(x, window, of) {
  ensure(x.shape.length === 4, "it is not called with a picture");
  const channels = x.shape[1], inner = x.shape[2] * x.shape[3];
  const data = room(Float32Array, channels * window.pixels);
  const run = () => {
    for (let c = 0, at = 0; c < channels; c++) {
      for (let pixel = 0; pixel < window.pixels; pixel++, at++) data[at] = of(x.data, c * inner, pixel * window.taps);
    }
  };
  return { shape: [1, channels, ...window.size], data, run };
}

function poolWindow(x, kernel, stride, padding, ceil) {
  ensure(x.shape.length === 4, "it is not called with a picture");
  ensure(ceil === false, "it rounds sizes up, which this page does not run");
  const size = checkedPair(kernel, 1, "kernel"), pads = checkedPair(padding, 0, "padding").map((n) => [n, n]);
  const step = Array.isArray(stride) && !stride.length ? size : checkedPair(stride, 1, "stride");
  return { size, pads, step };
}

function maxPool2d(x, kernel, stride = [], padding = 0, dilation = 1, ceil = false) {
  const { size, pads, step } = poolWindow(x, kernel, stride, padding, ceil);
  const geometry = { kernel: size, stride: step, padding: pads, dilation: checkedPair(dilation, 1, "dilation") };
  const window = imageWindow(x.shape[2], x.shape[3], geometry), { source, taps } = window;
  return pooled(x, window, (data, first, start) => {
    let most = -Infinity;
    for (let tap = start; tap < start + taps; tap++) {
      if (source[tap] >= 0) most = Math.max(most, data[first + source[tap]]);
    }
    return most;
  });
}

function avgPool2d(x, kernel, stride = [], padding = 0, ceil = false, countPadding = true, divisor = null) {
  const { size, pads, step } = poolWindow(x, kernel, stride, padding, ceil);
  ensure(pads.flat().every((n) => n === 0) && divisor === null, "it pads or has a divisor, which this page does not run");
  const window = imageWindow(x.shape[2], x.shape[3], { kernel: size, stride: step, padding: pads, dilation: [1, 1] });
  return averaged(x, window);
}

function averaged(x, window) {
  const { source, taps } = window;
  return pooled(x, window, (data, first, start) => {
    let sum = 0;
    for (let tap = start; tap < start + taps; tap++) sum += data[first + source[tap]];
    return sum / taps;
  });
}

function adaptiveAvgPool2d(x, size) {
  ensure(x.shape.length === 4, "it is not called with a picture");
  const wanted = checkedPair(size, 1, "size"), has = x.shape.slice(2);
  const even = has.every((n, axis) => n % wanted[axis] === 0);
  ensure(even, `it makes ${wanted} of ${has}, which this page does not run`);
  const kernel = has.map((n, axis) => n / wanted[axis]), none = [[0, 0], [0, 0]];
  return averaged(x, imageWindow(...has, { kernel, stride: kernel, padding: none, dilation: [1, 1] }));
}
