// A safetensors file: header's length, header of JSON, numbers. All is checked before it is used.

const LONGEST_HEADER = 32 << 20;

function parsed(text, what) {
  try {
    return JSON.parse(text);
  } catch {
    return refuse(`${what} is no JSON`);
  }
}

function textOf(bytes, what) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse(`${what} is no text`);
  }
}

// Returns {tensors: name -> {dtype, shape, bytes}, metadata: name -> text}.
function readTensorFile(bytes) {
  const foreign = "it is not a safetensors file";
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) {
    refuse("it is a zip archive, perhaps a checkpoint: export it with format=packed");
  }
  ensure(bytes.length > 8, foreign);
  const lengths = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const length = lengths.getUint32(0, true), most = Math.min(bytes.length - 8, LONGEST_HEADER);
  ensure(lengths.getUint32(4, true) === 0 && length > 1 && length <= most, `${foreign}, or it was cut off`);
  const header = parsed(textOf(bytes.subarray(8, 8 + length), "its header"), "its header");
  ensure(isMapping(header), foreign);
  const { __metadata__: metadata = {}, ...entries } = header;
  ensure(isMapping(metadata) && Object.values(metadata).every(isText), "its metadata are no text");
  return { tensors: placed(entries, bytes.subarray(8 + length)), metadata: new Map(Object.entries(metadata)) };
}

// The tensors lie one after another, without gaps, and fill the file.
function placed(entries, data) {
  const tensors = new Map();
  const found = Object.entries(entries).map(([name, entry]) => {
    const sound = isMapping(entry) && Object.hasOwn(TYPES, entry.dtype) && areSizes(entry.shape)
      && areSizes(entry.data_offsets) && entry.data_offsets.length === 2;
    ensure(sound, `its tensor ${name} is not described soundly`);
    return [name, entry];
  });
  let at = 0;
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of found.sort((a, b) => (
    a[1].data_offsets[0] - b[1].data_offsets[0] || a[1].data_offsets[1] - b[1].data_offsets[1]))) {
    const right = begin === at && end - begin === count(shape) * TYPES[dtype].size && end <= data.length;
    ensure(right, `its tensor ${name} has another size than its header says, or the file was cut off`);
    tensors.set(name, { dtype, shape, bytes: data.subarray(begin, end) });
    at = end;
  }
  ensure(at === data.length, "it holds more than its header says");
  return tensors;
}
