// A packed network that is ready to run: its graph, checked as a whole before anything is computed.

const MOST_STEPS = 10000;

// Returns {input, output, steps, info} of what readPacked gave; run() computes output of input.
function networkOf({ spec, tensors }) {
  ensure(Array.isArray(spec.steps) && spec.steps.length <= MOST_STEPS, "its graph is not sound");
  for (const step of spec.steps) checkStep(step, spec.layers);
  const input = inputOf(spec), values = new Map([[spec.inputs[0][0], input]]);
  const steps = [];
  for (const [result, target, args, keywords] of spec.steps) {
    ensure(!values.has(result), `its step ${result} is there twice`);
    const given = args.map((value) => argument(value, values, tensors));
    const named = Object.entries(keywords ?? {}).filter(([, value]) => value !== null);
    ensure(!named.length, `its operator ${target} has the keyword ${named[0]?.[0]}, which this page does not run`);
    const made = stepOf(target, given, spec.layers, tensors);
    values.set(result, made);
    if (Object.hasOwn(SIZES, target)) continue;
    for (const { shape, run } of [made].flat()) if (run) steps.push({ target, shape, run });
  }
  const output = values.get(spec.output?.ref);
  ensure(output?.data && steps.length, "its result is no tensor");
  const run = () => {
    for (const step of steps) step.run();
    return output.data;
  };
  return { input, output, steps, run, info: spec.info, layers: spec.layers };
}

// What is unknown is refused by name, before anything of it is looked at.
function checkStep(step, layers) {
  const [result, target, args, keywords = {}] = Array.isArray(step) ? step : [];
  ensure(isText(result) && isText(target) && Array.isArray(args) && isMapping(keywords), "its graph is not sound");
  if (!target.startsWith("layer ")) {
    ensure(Object.hasOwn(OPERATORS, target) || Object.hasOwn(SIZES, target), `its operator ${target} is none that this page runs`);
    return;
  }
  const name = target.slice(6);
  ensure(Object.hasOwn(layers, name), `it has no layer ${name}`);
  ensure(Object.hasOwn(LAYERS, layers[name]?.type), `its layer ${name} is a ${layers[name]?.type}, which this page does not run`);
}

function inputOf({ inputs, info }) {
  ensure(Array.isArray(inputs) && inputs.length === 1, "it takes several inputs, which this page does not run");
  const [name, dtype, sizes, example] = Array.isArray(inputs[0]) ? inputs[0] : [];
  ensure(isText(name) && dtype === "float32", `it takes ${dtype}, no pictures`);
  ensure(areSizes(example) && Array.isArray(sizes) && sizes.length === example.length && example.length > 1, "its input has no sound sizes");
  ensure([null, 1].includes(sizes[0]), `it takes ${sizes[0]} samples at a time: pack it with a free batch`);
  const wanted = areSizes(info.input_shape) && info.input_shape.length === sizes.length - 1 ? info.input_shape : example.slice(1);
  const shape = sizes.map((size, axis) => (axis === 0 ? 1 : size ?? wanted[axis - 1]));
  ensure(areSizes(shape) && count(shape) > 0, "its input has no sound sizes");
  return { shape, data: room(Float32Array, count(shape)) };
}

function argument(value, values, tensors) {
  if (Array.isArray(value)) return value.map((one) => argument(one, values, tensors));
  if (!isMapping(value)) return value;
  const { ref } = value;
  ensure(isText(ref), `an argument of its graph is ${JSON.stringify(value)}, which this page does not run`);
  if (!ref.startsWith("@")) {
    ensure(values.has(ref), `its graph uses ${ref} before it is made`);
    return values.get(ref);
  }
  if (!values.has(ref)) {
    ensure(tensors.has(ref), `its tensor ${ref.slice(1)} is missing`);
    const found = tensors.get(ref);
    values.set(ref, { shape: found.shape, data: floats(ref.slice(1), found), constant: true });
  }
  return values.get(ref);
}

function stepOf(target, given, layers, tensors) {
  if (Object.hasOwn(SIZES, target)) return SIZES[target](...given);
  if (target.startsWith("layer ")) {
    const name = target.slice(6), layer = packedLayer(name, layers[name], tensors);
    ensure(given.length === 1 && given[0]?.data, `its layer ${name} is called with more than a tensor`);
    return LAYERS[layers[name].type](name, layer, given[0]);
  }
  ensure(given[0]?.data, `its operator ${target} is not called with a tensor`);
  try {
    return OPERATORS[target](...given);
  } catch (error) {
    if (error instanceof Refusal) return refuse(`its operator ${target} cannot be run: ${error.message}`);
    throw error;
  }
}
