// Small tensors lie in one entry per type, thresholds as differences from equally spaced ones.

const CONTENTS = "bundle/contents", LINES = "bundle/thresholds", SMALL = "bundle/small/";
const LONGEST_TEXT = 32 << 20, MOST_THRESHOLDS = 4 << 20;

async function inflated(tensor, most) {
  ensure(tensor.dtype === "U8" && tensor.shape.length === 1, "its compressed part is none of bytes");
  const parts = [];
  let length = 0;
  try {
    const stream = new Blob([tensor.bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    for (const reader = stream.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > most) await reader.cancel();
      ensure(length <= most, "its compressed part is larger than it should be");
      parts.push(value);
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
    refuse("its compressed part is damaged");
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// Returns the tensors under their own names, and the architecture's text.
async function unbundled(tensors) {
  const contents = tensors.get(CONTENTS);
  ensure(contents, "its table of contents is missing");
  const bytes = await inflated(contents, LONGEST_TEXT);
  const end = bytes.indexOf(10);
  ensure(end > 0, "its table of contents is no list");
  const table = parsed(textOf(bytes.subarray(0, end), "its table of contents"), "its table of contents");
  ensure(isMapping(table) && isMapping(table.small) && Array.isArray(table.thresholds), "its table of contents is no list");
  const found = new Map([...tensors].filter(([name]) => !name.startsWith("bundle/")));
  for (const [dtype, entries] of Object.entries(table.small)) addSmall(found, dtype, entries, tensors.get(SMALL + dtype));
  await addLines(found, table.thresholds, tensors.get(LINES));
  return { tensors: found, text: bytes.subarray(end + 1) };
}

function add(found, name, tensor) {
  ensure(!found.has(name), `it holds the tensor ${name} twice`);
  found.set(name, tensor);
}

function addSmall(found, dtype, entries, data) {
  ensure(data && data.dtype === dtype && Array.isArray(entries), `its small tensors of type ${dtype} are missing`);
  let at = 0;
  for (const entry of entries) {
    ensure(Array.isArray(entry) && isText(entry[0]) && areSizes(entry[1]), "its table of contents is not sound");
    const [name, shape] = entry, next = at + count(shape) * TYPES[dtype].size;
    ensure(next <= data.bytes.length, `its tensor ${name} is cut off`);
    add(found, name, { dtype, shape, bytes: data.bytes.subarray(at, next) });
    at = next;
  }
  ensure(at === data.bytes.length, "its small tensors have another size than its table of contents says");
}

async function addLines(found, entries, data) {
  let many = 0;
  for (const entry of entries) {
    const sound = Array.isArray(entry) && isText(entry[0]) && ["F32", "F16"].includes(entry[1])
      && areSizes(entry[2]) && entry[2].length > 0 && entry[2].at(-1) > 1;
    ensure(sound, "its thresholds are not described soundly");
    many += count(entry[2]);
  }
  ensure(many <= MOST_THRESHOLDS && !data === (many === 0), "its thresholds are missing");
  if (!data) return;
  const raw = await inflated(data, 4 * many);
  ensure(raw.length === 4 * many, "its thresholds have another size than its table of contents says");
  const coded = Int32Array.from({ length: many }, (_, i) => ( // bytes of one significance lie together
    raw[i] | (raw[many + i] << 8) | (raw[2 * many + i] << 16) | (raw[3 * many + i] << 24)));
  let at = 0;
  for (const [name, dtype, shape] of entries) {
    add(found, name, lines(coded.subarray(at, at + count(shape)), dtype, shape));
    at += count(shape);
  }
}

// Each row holds the bits of its ends, and between them what the bits differ from a line's.
function lines(coded, dtype, shape) {
  const long = shape.at(-1), value = new Float32Array(1), bits = new Int32Array(value.buffer);
  const made = new DataView(new ArrayBuffer(coded.length * TYPES[dtype].size));
  const float = (one) => { bits[0] = one; return value[0]; };
  for (let row = 0; row < coded.length; row += long) {
    const first = float(coded[row]), last = float(coded[row + long - 1]);
    ensure(Number.isFinite(first) && Number.isFinite(last), "a threshold is not finite");
    for (let i = 0; i < long; i++) {
      value[0] = first + ((last - first) / (long - 1)) * i;
      const inside = i > 0 && i < long - 1;
      bits[0] = inside ? bits[0] + coded[row + i] : coded[row + i];
      if (dtype === "F32") made.setFloat32((row + i) * 4, value[0], true);
      else made.setUint16((row + i) * 2, toHalf(value[0]), true);
    }
  }
  return { dtype, shape, bytes: new Uint8Array(made.buffer) };
}
