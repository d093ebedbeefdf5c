// A packed network of ste_lightning: its checksum is right, or it is not read.

const FORMAT = "ste_lightning.packed", VERSION = 2;

// Returns {spec, tensors}: the architecture, and numbers by name.
async function readPacked(bytes) {
  const file = readTensorFile(bytes);
  const { metadata } = file;
  ensure(metadata.get("format") === FORMAT, "it is not a packed network of ste_lightning: export one with format=packed");
  const version = metadata.get("version") ?? "";
  ensure(/^[1-9]\d{0,8}$/.test(version), `its version is ${JSON.stringify(version)}`);
  ensure(Number(version) <= VERSION, `its version is ${version}, this page reads ${VERSION}: use a newer page`);
  ensure(Number(version) === VERSION, `its version is ${version}: load and save it with the newest ste_lightning`);
  const { tensors, text } = await unbundled(file.tensors);
  ensure(checksum(tensors, text) === metadata.get("sha256"), "its checksum is wrong: it was changed or damaged");
  const spec = parsed(textOf(text, "its architecture"), "its architecture");
  ensure(isMapping(spec), "its architecture is no mapping");
  for (const key of ["layers", "constants", "same", "info"]) ensure(isMapping(spec[key]), `its ${key} are no mapping`);
  for (const [name, other] of Object.entries(spec.same)) {
    ensure(tensors.has(other), `its tensor ${name} is equal to none`);
    add(tensors, name, tensors.get(other));
  }
  return { spec, tensors };
}

function checksum(tensors, text) {
  const digest = new Sha256().update(text), encoder = new TextEncoder();
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, shape, bytes } = tensors.get(name);
    const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
    digest.update(encoder.encode(`${name}:${TYPES[dtype].torch}:(${sizes});`)).update(bytes);
  }
  return digest.hex();
}
