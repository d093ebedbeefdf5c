// Products of bits: 32 at a time, by XOR and a count of ones.

function ones(x) {
  x -= (x >>> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

// Rows of 0s and 1s as words, the first bit lowest; a row begins a new word.
function packBits(bits, channels, words) {
  const per = Math.ceil(channels / 32);
  words.fill(0);
  for (let row = 0, at = 0; at < bits.length; row += per) {
    for (let c = 0; c < channels; c++, at++) words[row + (c >> 5)] |= bits[at] << (c & 31);
  }
}

// Returns what sums one output pixel: x are words of bits a worth `step` a + `offset`, weights
// words of bits b worth 2 b - 1. A tap's sum is step (sum of b - ones of a XOR b) + offset
// (2 sum of b - channels).
function bitSums(x, weights, { taps, source }, channels, outputs, { step, offset }, outside) {
  const words = Math.ceil(channels / 32);
  const inside = new Int32Array(outputs * taps);
  for (let i = 0; i < inside.length; i++) {
    let set = 0;
    for (let w = 0; w < words; w++) set += ones(weights[i * words + w]);
    inside[i] = step * set + offset * (2 * set - channels);
  }
  return (pixel, sums) => {
    for (let o = 0; o < outputs; o++) {
      let sum = 0, different = 0;
      for (let tap = 0; tap < taps; tap++) {
        const from = source[pixel * taps + tap], i = o * taps + tap;
        if (from < 0) {
          sum += outside[i];
          continue;
        }
        sum += inside[i];
        for (let w = 0; w < words; w++) different += ones(x[from * words + w] ^ weights[i * words + w]);
      }
      sums[o] = sum - step * different;
    }
  };
}
