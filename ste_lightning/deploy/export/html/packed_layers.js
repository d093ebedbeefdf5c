// Packed linear layers and convolutions: an input becomes bits, levels or floats, sums of them
// become floats.

const LAYERS = {
  "PackedLinear": (name, layer, x) => {
    ensure(layer.shape.length === 2 && x.shape.at(-1) === layer.shape[1], `the layer ${name} does not fit its input`);
    const [outputs, channels] = layer.shape, window = rowWindow(count(x.shape) / channels);
    const places = { nextPixel: channels, nextChannel: 1, nextRow: outputs, nextOutput: 1 };
    return computed(name, { ...layer, ...places, window, channels }, x, [...x.shape.slice(0, -1), outputs]);
  },
  "PackedConv": (name, layer, x) => {
    const { geometry, shape, groups, padding_mode: mode } = layer, unknown = "which this page does not run";
    ensure(shape.length === 4, `the layer ${name} is a convolution of ${shape.length - 2} dimensions, ${unknown}`);
    ensure(mode === "zeros", `the layer ${name} pads by ${mode}, ${unknown}`);
    ensure(layer.input.kind !== "token", `the layer ${name} is a convolution of tokens, ${unknown}`);
    const channels = shape[1] * groups, [, has, height, width] = x.shape;
    ensure(x.shape.length === 4 && has === channels, `the layer ${name} does not fit its input`);
    const window = imageWindow(height, width, { ...checkedGeometry(name, geometry), kernel: shape.slice(2) });
    const places = { nextPixel: 1, nextChannel: height * width, nextRow: 1, nextOutput: window.pixels };
    return computed(name, { ...layer, ...places, window, channels }, x, [1, shape[0], ...window.size]);
  },
};

// Returns {shape, data, run} of a layer.
function computed(name, layer, x, shape) {
  const outputs = layer.shape[0];
  const inputScale = layer.integers === true ? 1 : layer.input.scale ?? 1;
  const scale = layer.scale || inputScale !== 1
    ? Float32Array.from({ length: outputs }, (_, o) => (layer.scale?.[o] ?? 1) * Math.fround(inputScale)) : null;
  const { encode, sum, tokens } = layer.input.kind === "float" ? floatLayer(name, layer, x) : integerLayer(name, layer, x);
  const data = room(Float32Array, count(shape)), sums = new Float64Array(outputs);
  const { window, nextRow, nextOutput, bias } = layer;
  const run = () => {
    encode();
    for (let pixel = 0; pixel < window.pixels; pixel++) {
      sum(pixel, sums);
      for (let o = 0; o < outputs; o++) {
        let y = Math.fround(sums[o]);
        if (scale) y = Math.fround(y * scale[o]);
        if (tokens) y = Math.fround(y * tokens[pixel]);
        data[pixel * nextRow + o * nextOutput] = bias ? y + bias[o] : y;
      }
    }
  };
  return { shape, data, run };
}

// Writes of(number, channel) for all numbers of x in the order [pixel][channel].
function arranged(x, { channels, nextPixel, nextChannel }, made, of) {
  for (let at = 0, pixel = 0; at < made.length; pixel++) {
    for (let c = 0; c < channels; c++, at++) made[at] = of(x[pixel * nextPixel + c * nextChannel], c);
  }
}

// What a tap adds where it reads padding, by output.
function paddedSums(levels, width, pad) {
  return Float64Array.from({ length: levels.length / width }, (_, i) => (
    pad * levels.subarray(i * width, (i + 1) * width).reduce((sum, level) => sum + level, 0)));
}

function floatLayer(name, layer, x) {
  const { window, channels, groups, levels } = layer, pad = layer.pad_value ?? 0;
  ensure(Number.isFinite(pad), `the layer ${name} has no sound padding`);
  const read = room(Float32Array, x.data.length);
  const outside = paddedSums(levels, channels / groups, pad);
  return {
    encode: () => arranged(x.data, layer, read, (value) => value),
    sum: floatSums(read, levels, window, channels, layer.shape[0], groups, outside),
  };
}

function integerLayer(name, layer, x) {
  const { window, channels, groups, levels, input, weightWorth } = layer, kind = worth(input);
  const pad = (layer.pad_value ?? 0) / (input.scale ?? 1), unknown = "which this page does not run";
  ensure(Number.isInteger(pad), `the layer ${name} pads with a fraction of a level, ${unknown}`);
  const ends = [kind.offset, kind.offset + kind.step * (2 ** kind.bits - 1), pad].map(Math.abs);
  const most = levels.reduce((found, level) => Math.max(found, Math.abs(level)), 0);
  const terms = (channels / groups) * window.taps;
  ensure(Math.max(...ends) * most * terms < 2 ** 31, `the layer ${name} has sums of more than 31 bits, ${unknown}`);
  const outputs = layer.shape[0], outside = paddedSums(levels, channels / groups, pad);
  const signs = weightWorth.bits === 1 && weightWorth.step === 2 && weightWorth.offset === -1;
  const read = room(Int32Array, x.data.length);
  if (input.kind === "binary" && signs && groups === 1) {
    const code = encoder(input, layer.quantizer), per = Math.ceil(channels / 32);
    const words = room(Int32Array, (read.length / channels) * per);
    const weights = room(Int32Array, outputs * window.taps * per);
    packBits(layer.codes, channels, weights);
    return {
      encode: () => {
        arranged(x.data, layer, read, code);
        packBits(read, channels, words);
      },
      sum: bitSums(words, weights, window, channels, outputs, kind, outside),
    };
  }
  const sum = levelSums(read, Int32Array.from(levels), window, channels, outputs, groups, outside);
  if (input.kind === "token") {
    const tokens = new Float32Array(window.pixels);
    return { encode: () => tokenLevels(input, x.data, channels, read, tokens), sum, tokens };
  }
  const code = encoder(input, layer.quantizer);
  return { encode: () => arranged(x.data, layer, read, (value, c) => code(value, c) * kind.step + kind.offset), sum };
}
