// Products of floats, summed in float64 and rounded once.

// Returns what sums one output pixel; weights are [output][tap][channel of the group].
function floatSums(x, weights, { taps, source }, channels, outputs, groups, outside) {
  const width = channels / groups, each = outputs / groups;
  return (pixel, sums) => {
    for (let o = 0; o < outputs; o++) {
      const first = Math.floor(o / each) * width;
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) {
        const from = source[pixel * taps + tap], w = (o * taps + tap) * width;
        if (from < 0) {
          sum += outside[o * taps + tap];
          continue;
        }
        const at = from * channels + first;
        for (let c = 0; c < width; c++) sum += x[at + c] * weights[w + c];
      }
      sums[o] = sum;
    }
  };
}
