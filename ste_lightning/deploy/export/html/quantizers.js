// How a packed layer's input becomes levels, rounded as in training: by thresholds.

// Returns (x, channel) -> code, for float32 x.
function encoder(input, tensors) {
  const { factor, offset, thresholds } = tensors;
  if (input.kind === "binary") {
    const shifted = factor ? (x, c) => Math.fround(Math.fround(x * factor[c]) + offset[c]) : (x) => x;
    return input.name === "step" ? (x, c) => Number(shifted(x, c) > 0) : (x, c) => Number(!(shifted(x, c) < 0));
  }
  const { count: many, channels } = input;
  return (x, c) => {
    const value = channels > 1 ? Math.fround(x * factor[c]) : x, row = channels > 1 ? c * many : 0;
    let low = 0, high = many;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value < thresholds[row + middle]) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

// What a code of the input is worth in levels: step * code + offset.
function worth(input) {
  if (input.kind === "binary") return input.name === "step" ? { bits: 1, step: 1, offset: 0 } : { bits: 1, step: 2, offset: -1 };
  if (input.kind === "levels") return { bits: input.bits, step: 1, offset: input.lowest };
  return { bits: input.bits, step: 1, offset: -(2 ** (input.bits - 1)) };
}

function roundedToEven(x) {
  const whole = Math.floor(x), rest = x - whole;
  if (rest !== 0.5) return Math.round(x);
  return whole % 2 ? whole + 1 : whole;
}

// Writes the levels of rows, each on a grid of its own, and what a level of each is worth.
function tokenLevels(input, x, width, levels, scales) {
  const most = 2 ** (input.bits - 1) - 1;
  for (let row = 0; row < scales.length; row++) {
    let largest = Math.fround(input.smallest);
    for (let c = 0; c < width; c++) largest = Math.max(largest, Math.abs(x[row * width + c]));
    const scale = Math.fround(largest / most);
    scales[row] = scale;
    for (let c = row * width; c < (row + 1) * width; c++) {
      levels[c] = Math.min(most, Math.max(-most - 1, roundedToEven(Math.fround(x[c] / scale))));
    }
  }
  return scales;
}
