// The operators of a network's graph that this page runs. Each gets tensors {shape, data} and
// plain values, checks them, and returns a tensor with what computes it (or a list of them).

const OPERATORS = {
  "flatten.using_ints": flattened,
  "view": viewed,
  "reshape": viewed,
  "dropout": (x, share, training) => {
    ensure(training === false, "it is called as in training");
    return x;
  },
  "linear": linear,
  "conv2d": conv2d,
  "batch_norm": batchNorm,
  "_native_batch_norm_legit_no_training": (x, weight, bias, mean, variance, momentum, eps) => (
    [batchNorm(x, weight, bias, mean, variance, false, momentum, eps)]),
  "max_pool2d": maxPool2d,
  "avg_pool2d": avgPool2d,
  "adaptive_avg_pool2d": adaptiveAvgPool2d,
  "slice.Tensor": sliced,
  "pad": padded,
  "softmax.int": (x, axis) => softmax(x, axis, (rest, total) => Math.exp(rest) / total),
  "log_softmax.int": (x, axis) => softmax(x, axis, (rest, total) => rest - Math.log(total)),
  ...Object.fromEntries(Object.entries(UNARY).map(([name, of]) => [name, unary(of)])),
  ...Object.fromEntries(Object.entries(BINARY).map(([name, of]) => [name, binary(of)])),
};

const SIZES = {
  "sizes.size": (x, axis) => x.shape.at(axis),
  "sizes.getitem": (values, index) => values[index],
  "sizes.add": (a, b) => a + b,
  "sizes.sub": (a, b) => a - b,
  "sizes.mul": (a, b) => a * b,
  "sizes.floordiv": (a, b) => Math.floor(a / b),
  "sizes.eq": (a, b) => a === b,
  "sizes.ne": (a, b) => a !== b,
  "sizes.lt": (a, b) => a < b,
  "sizes.le": (a, b) => a <= b,
  "sizes.gt": (a, b) => a > b,
  "sizes.ge": (a, b) => a >= b,
  "sizes.and": (a, b) => a && b,
  "sizes.or": (a, b) => a || b,
  "sizes.not": (a) => !a,
  "sizes.check": (holds, where) => ensure(holds, `it was packed for other sizes (${where})`),
};

function axisOf(x, axis) {
  const found = axis < 0 ? axis + x.shape.length : axis;
  ensure(isSize(found) && found < x.shape.length, `it has no axis ${axis}`);
  return found;
}

function flattened(x, start = 0, end = -1) {
  const [first, last] = [axisOf(x, start), axisOf(x, end)];
  ensure(first <= last, "its axes are not in order");
  return { shape: [...x.shape.slice(0, first), count(x.shape.slice(first, last + 1)), ...x.shape.slice(last + 1)], data: x.data };
}

function viewed(x, sizes) {
  ensure(Array.isArray(sizes) && sizes.every((n) => isSize(n) || n === -1), "it has no sound sizes");
  const known = count(sizes.filter((n) => n !== -1)), shape = sizes.map((n) => (n === -1 ? x.data.length / known : n));
  ensure(areSizes(shape) && count(shape) === x.data.length, "its sizes do not fit");
  return { shape, data: x.data };
}

// Returns a tensor whose numbers are those of x at some places, -1 for `value`.
function gathered(x, shape, place, value = 0) {
  const data = room(Float32Array, count(shape)), from = new Int32Array(data.length);
  const strides = x.shape.map((_, axis) => count(x.shape.slice(axis + 1)));
  for (let i = 0; i < from.length; i++) {
    for (let axis = shape.length - 1, rest = i; axis >= 0 && from[i] >= 0; axis--) {
      const at = place(axis, rest % shape[axis]);
      from[i] = at >= 0 && at < x.shape[axis] ? from[i] + at * strides[axis] : -1;
      rest = Math.floor(rest / shape[axis]);
    }
  }
  const run = () => {
    for (let i = 0; i < data.length; i++) data[i] = from[i] < 0 ? value : x.data[from[i]];
  };
  return { shape, data, run };
}

function sliced(x, axis = 0, start = null, end = null, step = 1) {
  const along = axisOf(x, axis), size = x.shape[along];
  const within = (n, other) => Math.min(size, Math.max(0, n === null ? other : n < 0 ? n + size : n));
  const [first, last] = [within(start, 0), within(end, size)];
  ensure(isSize(step) && step > 0 && first < last, "it has no sound ends");
  const shape = x.shape.map((n, i) => (i === along ? Math.ceil((last - first) / step) : n));
  return gathered(x, shape, (i, at) => (i === along ? first + at * step : at));
}

function padded(x, pads, mode = "constant", value = null) {
  ensure(mode === "constant", `it pads by ${mode}, which this page does not run`);
  const sound = Array.isArray(pads) && pads.length % 2 === 0 && pads.length <= 2 * x.shape.length
    && pads.every((n) => isSize(n) && n <= 4096);
  ensure(sound && (value === null || Number.isFinite(value)), "it has no sound padding");
  const before = (axis) => pads[2 * (x.shape.length - 1 - axis)] ?? 0;
  const after = (axis) => pads[2 * (x.shape.length - 1 - axis) + 1] ?? 0;
  return gathered(x, x.shape.map((n, axis) => before(axis) + n + after(axis)), (axis, at) => at - before(axis), value ?? 0);
}

function softmax(x, axis, of) {
  ensure(axisOf(x, axis) === x.shape.length - 1, "it is not along the last axis, which this page does not run");
  const data = room(Float32Array, x.data.length), long = x.shape.at(-1);
  const run = () => {
    for (let row = 0; row < data.length; row += long) {
      const values = x.data.subarray(row, row + long), most = Math.max(...values);
      const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0);
      for (let i = 0; i < long; i++) data[row + i] = of(values[i] - most, total);
    }
  };
  return { shape: x.shape, data, run };
}
