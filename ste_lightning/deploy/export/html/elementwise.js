// Operators that compute number by number.

const clamped = (x, low, high) => (low !== null && x < low ? low : high !== null && x > high ? high : x);

const UNARY = {
  "relu": (x) => (x < 0 ? 0 : x),
  "relu6": (x) => clamped(x, 0, 6),
  "hardtanh": (x, low = -1, high = 1) => clamped(x, low, high),
  "clamp": (x, low = null, high = null) => clamped(x, low, high),
  "leaky_relu": (x, slope = 0.01) => (x > 0 ? x : slope * x),
  "sigmoid": (x) => 1 / (1 + Math.exp(-x)),
  "tanh": (x) => Math.tanh(x),
  "silu": (x) => x / (1 + Math.exp(-x)),
  "hardswish": (x) => (x * clamped(x + 3, 0, 6)) / 6,
  "abs": (x) => Math.abs(x),
  "neg": (x) => -x,
};

const BINARY = {
  "add.Tensor": (x, y) => x + y,
  "sub.Tensor": (x, y) => x - y,
  "mul.Tensor": (x, y) => x * y,
  "div.Tensor": (x, y) => x / y,
};

function unary(of) {
  return (x, ...constants) => {
    ensure(constants.every((value) => value === null || Number.isFinite(value)), "it has arguments that are no numbers");
    const data = room(Float32Array, x.data.length);
    const run = () => {
      for (let i = 0; i < data.length; i++) data[i] = of(x.data[i], ...constants);
    };
    return { shape: x.shape, data, run };
  };
}

function binary(of) {
  return (x, y) => {
    const operands = [x, y].map((one) => (Number.isFinite(one) ? { shape: [], data: [one] } : one));
    const shape = broadcastShape(operands[0].shape, operands[1].shape);
    const data = room(Float32Array, count(shape));
    const [first, second] = operands.map((one) => places(one.shape, shape));
    const [{ data: a }, { data: b }] = operands;
    const run = () => {
      for (let i = 0; i < data.length; i++) data[i] = of(a[first ? first[i] : i], b[second ? second[i] : i]);
    };
    return { shape, data, run };
  };
}

function broadcastShape(a, b) {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const n = a[axis - rank + a.length] ?? 1, m = b[axis - rank + b.length] ?? 1;
    ensure(n === m || n === 1 || m === 1, `shapes ${a} and ${b} do not fit`);
    return Math.max(n, m);
  });
}

// Which number of an operand belongs to each of the whole, null where it is the same one.
function places(shape, whole) {
  if (String(shape) === String(whole)) return null;
  const found = room(Int32Array, count(whole)), lead = whole.length - shape.length;
  for (let i = 0; i < found.length; i++) {
    for (let axis = whole.length - 1, rest = i, stride = 1; axis >= lead; axis--) {
      const n = shape[axis - lead];
      if (n > 1) found[i] += (rest % whole[axis]) * stride;
      stride *= n;
      rest = Math.floor(rest / whole[axis]);
    }
  }
  return found;
}
