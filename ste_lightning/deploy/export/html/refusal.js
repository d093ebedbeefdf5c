// What is refused says why, in a sentence for the reader.

class Refusal extends Error {}

function refuse(sentence) {
  throw new Refusal(sentence);
}

function ensure(holds, sentence) {
  if (!holds) refuse(sentence);
}

const isSize = (n) => Number.isSafeInteger(n) && n >= 0;
const isMapping = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string";
const areSizes = (values) => Array.isArray(values) && values.length <= 8 && values.every(isSize);
const count = (shape) => shape.reduce((product, n) => product * n, 1);
