// A packed layer as its file describes it: everything is checked before it is used.

function checkedGeometry(name, geometry) {
  const isPair = (values, low) => Array.isArray(values) && values.length === 2 && values.every((n) => isSize(n) && n >= low && n <= 4096);
  const sound = isMapping(geometry) && isPair(geometry.stride, 1) && isPair(geometry.dilation, 1)
    && Array.isArray(geometry.padding) && geometry.padding.length === 2 && geometry.padding.every((pair) => isPair(pair, 0));
  ensure(sound, `the layer ${name} has no sound geometry`);
  return geometry;
}

// Returns a layer's settings with its tensors, all of fitting sizes.
function packedLayer(name, described, tensors) {
  const settings = described?.settings;
  const sound = isMapping(settings) && areSizes(settings.shape) && settings.shape.length > 1 && Math.min(...settings.shape) > 0
    && isSize(settings.groups) && settings.groups > 0 && settings.shape[0] % settings.groups === 0
    && Array.isArray(settings.weight) && settings.weight.length === 3 && settings.weight.every(Number.isSafeInteger);
  ensure(sound, `the layer ${name} is not described soundly`);
  ensure(settings.scaled === true || settings.scaled === false, `the layer ${name} has several scales per output, which this page does not run`);
  const { shape, groups, weight: [bits, step, offset] } = settings;
  ensure(bits >= 1 && bits <= 8, `the layer ${name} has weights of ${bits} bits`);
  const input = checkedInput(name, settings.input, shape[1] * groups);
  const numbers = (key, ...sizes) => {
    const found = tensors.get(`${name}.${key}`);
    ensure(found && String(found.shape) === String(sizes), `its tensor ${name}.${key} is missing, or of another size`);
    return floats(`${name}.${key}`, found);
  };
  const packed = tensors.get(`${name}.weight_bits`);
  ensure(packed && packed.dtype === "U8", `its tensor ${name}.weight_bits is missing`);
  const codes = tapsFirst(unpackedCodes(packed.bytes, bits, count(shape)), shape);
  const perChannel = input.kind === "binary" && input.channels > 0;
  const levels = input.kind === "levels";
  return {
    ...settings,
    input,
    weightWorth: { bits, step, offset },
    codes,
    levels: Float64Array.from(codes, (code) => code * step + offset),
    scale: settings.scaled ? numbers("scale", shape[0]) : null,
    bias: settings.bias === true ? numbers("bias", shape[0]) : null,
    quantizer: {
      factor: perChannel || levels ? numbers("input.factor", input.channels) : null,
      offset: perChannel ? numbers("input.offset", input.channels) : null,
      thresholds: levels ? numbers("input.thresholds", input.channels, input.count) : null,
    },
  };
}

function checkedInput(name, input, channels) {
  ensure(isMapping(input), `the layer ${name} has no input`);
  const between = (n, low, high) => Number.isSafeInteger(n) && n >= low && n <= high;
  const known = {
    float: () => true,
    binary: () => ["sign", "step"].includes(input.name) && [0, channels].includes(input.channels),
    levels: () => between(input.bits, 1, 8) && between(input.count, 1, 2 ** input.bits - 1)
      && between(input.lowest, -(2 ** 31), 2 ** 31) && [1, channels].includes(input.channels),
    token: () => between(input.bits, 2, 8) && input.smallest > 0,
  };
  ensure(Object.hasOwn(known, input.kind), `the layer ${name} has inputs of kind ${input.kind}, which this page does not run`);
  const scaled = !["binary", "levels"].includes(input.kind) || (Number.isFinite(input.scale) && input.scale !== 0);
  ensure(known[input.kind]() && scaled, `the layer ${name} has no sound input`);
  return input;
}

// Returns weights as [output][tap][channel].
function tapsFirst(codes, [outputs, channels, ...kernel]) {
  const taps = count(kernel), made = new codes.constructor(codes.length);
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < taps; t++) made[(o * taps + t) * channels + c] = codes[(o * channels + c) * taps + t];
    }
  }
  return made;
}
