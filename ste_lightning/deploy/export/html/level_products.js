// Products of integer levels; sums stay below 2^31.

// Arguments are those of floatSums, with integers.
function levelSums(x, weights, { taps, source }, channels, outputs, groups, outside) {
  const width = channels / groups, each = outputs / groups;
  return (pixel, sums) => {
    for (let o = 0; o < outputs; o++) {
      const first = Math.floor(o / each) * width;
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) {
        const from = source[pixel * taps + tap], w = (o * taps + tap) * width;
        if (from < 0) {
          sum = (sum + outside[o * taps + tap]) | 0;
          continue;
        }
        const at = from * channels + first;
        for (let c = 0; c < width; c++) sum = (sum + Math.imul(x[at + c], weights[w + c])) | 0;
      }
      sums[o] = sum;
    }
  };
}
