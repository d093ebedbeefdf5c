// Numbers as files hold them: halves, little-endian arrays, codes of a few bits.

// Bytes of an element, and what reads one.
const TYPES = {
  U8: { size: 1, torch: "torch.uint8", read: (view, at) => view.getUint8(at) },
  I8: { size: 1, torch: "torch.int8", read: (view, at) => view.getInt8(at) },
  I16: { size: 2, torch: "torch.int16", read: (view, at) => view.getInt16(at, true) },
  I32: { size: 4, torch: "torch.int32", read: (view, at) => view.getInt32(at, true) },
  I64: { size: 8, torch: "torch.int64", read: (view, at) => Number(view.getBigInt64(at, true)) },
  F16: { size: 2, torch: "torch.float16", read: (view, at) => fromHalf(view.getUint16(at, true)) },
  BF16: { size: 2, torch: "torch.bfloat16" },
  F32: { size: 4, torch: "torch.float32", read: (view, at) => view.getFloat32(at, true) },
  F64: { size: 8, torch: "torch.float64" },
  BOOL: { size: 1, torch: "torch.bool" },
};

function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

// The half with a number's value; of others, whichever: a checksum shows it.
function toHalf(value) {
  const size = Math.abs(value), sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (size < 2 ** -14) return sign | (size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

// A tensor's numbers as float32, all of them finite.
function floats(name, tensor) {
  const { size, read } = TYPES[tensor.dtype];
  ensure(read, `its tensor ${name} is of type ${tensor.dtype}, which this page does not read`);
  const view = new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.length);
  const found = new Float32Array(count(tensor.shape));
  for (let i = 0; i < found.length; i++) found[i] = read(view, i * size);
  ensure(found.every(Number.isFinite), `its tensor ${name} holds a number that is not finite`);
  return found;
}

// Unsigned codes from bit planes: lowest bit first, the first code in a byte's lowest bit.
function unpackedCodes(packed, bits, many) {
  const plane = Math.ceil(many / 8);
  ensure(packed.length === bits * plane, `its packed weights have ${packed.length} bytes, not ${bits * plane}`);
  const codes = new Uint8Array(many);
  for (let bit = 0; bit < bits; bit++) {
    for (let i = 0; i < many; i++) {
      codes[i] |= ((packed[bit * plane + (i >> 3)] >> (i & 7)) & 1) << bit;
    }
  }
  return codes;
}
