"use strict";
// How many samples make a share of the students recover: ste_lightning.theory.required_samples,
// from the same table of fits log N = centre + logit(share) width.
const AXES = ["m", "n", "noise"];

function interpolate(nodes, place, logit) {
  const corners = AXES.map((axis) => {
    const held = nodes.filter((node) => axis !== "n" || (node.m === place.m && (!place.noise || node.noise)));
    const known = [...new Set(held.map((node) => node[axis]))].sort((a, b) => a - b);
    const below = known.filter((value) => value <= place[axis]).pop();
    const above = known.find((value) => value >= place[axis]);
    if (below === undefined || above === undefined || (axis === "m" && below !== above)) return null;
    if (below === above) return [[below, 1]];
    const share = axis === "noise" ? (place.noise - below) / (above - below) : Math.log(place.n / below) / Math.log(above / below);
    return [[below, 1 - share], [above, share]];
  });
  if (corners.includes(null)) return null;
  let [value, variance] = [0, 0];
  for (const [m, x] of corners[0]) for (const [n, y] of corners[1]) for (const [noise, z] of corners[2]) {
    const node = nodes.find((one) => one.m === m && one.n === n && one.noise === noise);
    if (!node) return null;
    const [a, b, c] = node.covariance;
    value += x * y * z * (node.centre + logit * node.width);
    variance += (x * y * z) ** 2 * (a + 2 * b * logit + c * logit ** 2);
  }
  const measured = corners.every((ends) => ends.length === 1);
  if (!measured) variance += interpolationError(nodes, logit);
  return { value, variance, measured };
}

/** The square of log N's typical error between two n: a quarter of that over two intervals. */
function interpolationError(nodes, logit) {
  const at = (node) => node.centre + logit * node.width;
  const errors = nodes.flatMap((node) => {
    const sides = [0.5, 2].map((k) => nodes.find((one) => one.m === node.m && one.n === k * node.n && one.noise === node.noise));
    return sides.every(Boolean) ? [(at(node) - (at(sides[0]) + at(sides[1])) / 2) ** 2] : [];
  });
  return errors.reduce((sum, error) => sum + error, 0) / errors.length / 16;
}

/** Return {samples, low, high, measured}, or null outside the table. */
function requiredSamples(table, { n, m, rule, noise }, share, iterate) {
  const nodes = table.filter((row) => row.rule === rule && row.iterate === iterate);
  const found = nodes.length ? interpolate(nodes, { m, n, noise }, Math.log(share / (1 - share))) : null;
  if (!found) return null;
  const [low, samples, high] = [-1, 0, 1].map((s) => Math.ceil(Math.exp(found.value + s * 1.959963984540054 * Math.sqrt(found.variance))));
  return { samples, low, high, measured: found.measured };
}

/** Return points [n, N] at which half of the students recover, for the settings' rule, m and noise. */
function halfLine(table, settings, iterate) {
  const points = [];
  for (const n of [8, 16, 32, 64, 128, 256]) {
    const found = requiredSamples(table, { ...settings, n }, 0.5, iterate);
    if (found) points.push([n, found.samples]);
  }
  return points;
}
if (typeof module !== "undefined") module.exports = { requiredSamples, halfLine };
