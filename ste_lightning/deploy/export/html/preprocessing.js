// How pixels become a network's numbers, as its file says: x = (low + (high - low) p - mean) / std.

// Returns {channels, height, width, ...} of a network that takes pictures.
function preprocessingOf({ input, info }) {
  const [, channels, height, width] = input.shape;
  ensure(input.shape.length === 4 && [1, 3].includes(channels), `it takes samples of ${input.shape.slice(1).join(" x ")} numbers, no pictures`);
  const given = info.preprocessing ?? info.normalization ?? {};
  ensure(isMapping(given), "its preprocessing is no mapping");
  const list = (value) => (value === undefined || value === null ? [] : [value].flat());
  const [mean, std, range] = [list(given.mean), list(given.std), list(given.range)];
  ensure([mean, std, range].flat().every(Number.isFinite), "its preprocessing holds values that are no numbers");
  for (const values of [mean, std]) ensure([0, 1, channels].includes(values.length), "its mean and deviation do not fit its channels");
  ensure(std.every((one) => one > 0), "its deviation is not positive");
  const interpolation = given.interpolation ?? "bilinear";
  ensure(interpolation === "nearest" || Object.hasOwn(FILTERS, interpolation), `its interpolation is ${interpolation}, which this page does not know`);
  checkedSize(given, height, width);
  const classes = Array.isArray(info.classes) ? info.classes.map(String) : null;
  return { channels, height, width, mean, std, range: knownRange(range, mean, std), interpolation, classes };
}

// A drawing is square, and resized to the network's size at once.
function checkedSize({ resize, crop }, height, width) {
  const whole = (size) => String(size) === String([height, width]);
  const fits = (resize ?? null) === null || whole(resize) || (resize === "fit" && height === width);
  ensure(fits && ((crop ?? null) === null || (whole(crop) && whole(resize))), "it resizes and crops pictures, which this page does not do");
}

// Older files do not say the range of pixels; mean and deviation tell it.
function knownRange(range, mean, std) {
  if (range.length === 2 && range[0] < range[1]) return range;
  const numbers = [...mean, ...std], plain = mean.every((one) => one === 0) && std.every((one) => one === 1);
  if (numbers.length && !plain && Math.max(...numbers.map(Math.abs)) <= 1) return [0, 1];
  if (mean.length && Math.max(...mean) >= 16 && Math.max(...mean) <= 255) return [0, 255];
  return refuse("it does not say in which range it takes pixels: export it with preprocessing={range: [0, 1]} or [0, 255]");
}

// The grey picture {width, height, data} in the network's size.
function seenBy(preprocessing, picture) {
  return resized(picture, preprocessing.width, preprocessing.height, preprocessing.interpolation);
}

// Writes what the network takes of a grey picture in its size, in all its channels.
function normalized({ channels, mean, std, range: [low, high] }, { data: pixels }, x) {
  const one = (values, channel, other) => Math.fround(values.length ? values[channel % values.length] : other);
  for (let channel = 0, at = 0; channel < channels; channel++) {
    const [middle, deviation] = [one(mean, channel, 0), one(std, channel, 1)];
    for (let i = 0; i < pixels.length; i++, at++) {
      const share = Math.fround(Math.fround(pixels[i] / 255) * Math.fround(high - low));
      x[at] = Math.fround(Math.fround(share + Math.fround(low)) - middle) / deviation;
    }
  }
}

// Probabilities of the classes, unless the results are some already.
function shares(y) {
  const sum = y.reduce((total, value) => total + value, 0);
  if (y.every((value) => value >= 0) && Math.abs(sum - 1) < 1e-4) return Array.from(y);
  const most = Math.max(...y), grown = Array.from(y, (value) => Math.exp(value - most));
  const total = grown.reduce((all, value) => all + value, 0);
  return grown.map((value) => value / total);
}
