// The page: a file becomes a network, a drawing becomes scores.

const $ = (id) => document.getElementById(id);
let network = null, preprocessing = null, waiting = false, said = 0;

function row(...cells) {
  const made = document.createElement("tr");
  cells.forEach((cell, i) => {
    const one = document.createElement(i ? "td" : "th");
    if (!i) one.scope = "row";
    one.append(cell);
    made.append(one);
  });
  return made;
}

function bar(share) {
  const made = document.createDocumentFragment(), [line, text] = ["span", "span"].map((tag) => document.createElement(tag));
  line.style.width = `${100 * share}%`;
  text.textContent = `${(100 * share).toFixed(1)} %`;
  made.append(line, text);
  return made;
}

const className = (index) => preprocessing.classes?.[index] ?? `class ${index}`;

// Returns the shares of the classes for a grey picture {width, height, data}.
function classified(picture) {
  const seen = seenBy(preprocessing, picture);
  normalized(preprocessing, seen, network.input.data);
  return { seen, results: shares(network.run()) };
}

function show() {
  waiting = false;
  if (!network) return;
  const { seen, results } = classified(drawing.picture());
  const best = results.indexOf(Math.max(...results));
  $("scores").tBodies[0].replaceChildren(...results.map((share, i) => {
    const made = row(className(i), bar(share));
    made.classList.toggle("best", i === best);
    return made;
  }));
  const canvas = $("seen"), pen = canvas.getContext("2d");
  [canvas.width, canvas.height] = [seen.width, seen.height];
  pen.putImageData(new ImageData(Uint8ClampedArray.from({ length: 4 * seen.data.length }, (_, i) => (
    i % 4 === 3 ? 255 : seen.data[i >> 2])), seen.width), 0, 0);
  clearTimeout(said); // a screen reader hears the last of many
  said = setTimeout(() => { $("best").textContent = `${className(best)}, ${(100 * results[best]).toFixed(0)} %`; }, 150);
}

function changed() {
  if (!waiting) requestAnimationFrame(show);
  waiting = true;
}

const drawing = new Drawing($("drawing"), $("pen"), $("width"), changed);

// Milliseconds of a picture: the least of three means, as the first ones compile.
function milliseconds() {
  const spent = () => {
    const start = performance.now();
    let runs = 0;
    while (performance.now() < start + 50) runs += network.run() ? 1 : 0;
    return (performance.now() - start) / runs;
  };
  return Math.min(spent(), spent(), spent());
}

function describe(name, bytes) {
  const time = milliseconds().toPrecision(2), { height, width } = preprocessing;
  $("about").textContent = `${name}: ${bytes.toLocaleString("en")} bytes; ${time} ms for a picture on this device.`;
  $("size").textContent = `${width} by ${height} pixels`;
  $("steps").tBodies[0].replaceChildren(...network.steps.map(({ target, shape }) => {
    const settings = network.layers[target.slice(6)]?.settings, size = shape.slice(1).join(" × ");
    if (!settings) return row(target.split(".")[0], "", "", size);
    const { weight: [bits], shape: sizes, input } = settings;
    const inputs = { float: "float", binary: "1 bit" }[input.kind] ?? `${input.bits} bits`;
    return row(target, `${count(sizes).toLocaleString("en")} of ${bits} bit${bits > 1 ? "s" : ""}`, inputs, size);
  }));
}

// Takes a packed file's bytes; a file that cannot be used leaves the network that was there.
async function take(name, bytes) {
  $("refusal").textContent = "";
  try {
    const opened = await openedNetwork(bytes);
    preprocessing = preprocessingOf(opened);
    network = opened;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    $("refusal").textContent = `${name} cannot be used: ${error.message}.`;
    return;
  }
  describe(name, bytes.length);
  show();
}

async function takeFile(file) {
  if (file) await take(file.name, new Uint8Array(await file.arrayBuffer()));
}

$("clear").addEventListener("click", () => drawing.clear());
$("file").addEventListener("change", (event) => takeFile(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });
}
const inside = $("model").textContent.trim();
if (inside) take("The network in this page", bytesOf(inside));
