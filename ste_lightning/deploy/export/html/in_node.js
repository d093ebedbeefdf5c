// Runs an exported page's network in Node: samples of float32 come in, results go out.
// Usage: node in_node.js PAGE; the first line out is {"shape": [...]} or {"refused": "..."}.

const { readFileSync, readSync, writeSync } = require("node:fs");

const part = (page, id) => page.split(` id="${id}">`)[1].split("</script>")[0];

function filled(buffer) {
  for (let at = 0; at < buffer.length;) {
    const read = readSync(0, buffer, at, buffer.length - at, null);
    if (read === 0) return false;
    at += read;
  }
  return true;
}

function written(buffer) {
  for (let at = 0; at < buffer.length;) at += writeSync(1, buffer, at);
}

async function main(path) {
  const page = readFileSync(path, "utf8");
  // A function: what is global would be looked up at every use.
  const { openedNetwork, bytesOf } = new Function(`${part(page, "kernel")}; return { openedNetwork, bytesOf };`)();
  let network;
  try {
    network = await openedNetwork(bytesOf(part(page, "model").trim()));
  } catch (error) {
    written(Buffer.from(`${JSON.stringify({ refused: error.message })}\n`));
    return;
  }
  const { input, output } = network;
  written(Buffer.from(`${JSON.stringify({ taken: input.shape.slice(1), made: output.shape.slice(1) })}\n`));
  const x = Buffer.from(input.data.buffer), y = Buffer.from(output.data.buffer);
  while (filled(x)) {
    network.run();
    written(y);
  }
}

main(process.argv[2]);
