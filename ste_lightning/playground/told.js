"use strict";
// What the page says of a training: lamps, numbers, forces, place, and the command in Python.
function sayForces() {
  if (!forces) {
    $("follow-said").textContent = "";
    return;
  }
  const counted = student.counted();
  const wrong = counted ? `Counted, with all others moving too: ${(100 * student.wrongShare(followed)).toFixed(0)} %.` : "";
  const { push, pull, share } = forces;
  $("follow-said").textContent = push > 0
    ? `Weight ${followed + 1}: right, it is pushed off by g = ${number(push)} a step; wrong, it is driven back by `
      + `D − g = ${number(pull - push)}. So alone it would be wrong g / D = ${(100 * share).toFixed(0)} % of the time. ${wrong}`
    : `Weight ${followed + 1}: at the teacher its force ${push ? "pushes it further to its right side" : "is 0"}, so alone it is never wrong. ${wrong}`;
}

function fact(name, value) {
  let cell = $(`fact-${name}`);
  if (!cell) {
    const place = document.createElement("div");
    const term = document.createElement("dt");
    term.textContent = name;
    cell = document.createElement("dd");
    cell.id = `fact-${name}`;
    place.append(term, cell);
    $("facts").append(place);
  }
  cell.textContent = value;
}

function lamp(name, wrong) {
  $(`lamp-${name}`).classList.toggle("lit", wrong === 0);
  $(name).textContent = wrong === null ? "no step counted yet" : wrong === 0 ? "at the teacher" : `${wrong} of ${student.n} wrong`;
}

function drawFacts() {
  const counted = student.counted();
  lamp("last", student.wrong);
  lamp("averaged", counted ? student.averagedWrong() : null);
  $("lamp-dead").hidden = !student.dead;
  fact("steps", String(student.steps));
  fact("time at the teacher", counted ? `${((100 * student.visits) / counted).toFixed(1)} %` : "-");
  fact("escapes", String(student.escapes));
  fact("returns", String(student.returns));
  fact("flips per step", counted ? (student.flips / counted).toFixed(2) : "-");
  fact("loss", number(student.loss));
  fact("hidden units on", `${(100 * student.active).toFixed(0)} %`);
  sayForces();
  $("wrong").setAttribute("aria-label", `Wrong signs at step ${student.steps}: last iterate ${student.wrong} of ${student.n}.`);
}

/** The diagram, and how many samples are needed: they change with the settings alone. */
function drawPlace() {
  const { n, m, N, noise, rule, law, shift, normalize } = settings;
  const [last, averaged] = ["last", "averaged"].map((iterate) => halfLine(TABLE, settings, iterate));
  drawPhase(settings, { last, averaged });
  $("phase").setAttribute("aria-label", `Phase diagram; you are at n = ${n}, N = ${N}.`);
  $("phase-said").textContent = averaged.length
    ? "The dot is you. Above a line more than half of the students find the teacher "
      + `(${last.length ? "orange: last iterate, " : ""}blue dashes: vote). Measured for ${rule}, m = ${m}, noise ${number(noise)}, Gaussian inputs, step size 1.`
    : "The dot is you. Lines were measured for m = 1 and 4, noise up to 0.5, and the rules identity, ReLU and triangular.";
  const iterate = noise ? "averaged" : "last";
  const needed = requiredSamples(TABLE, settings, 0.95, iterate);
  const other = law !== "gaussian" || shift || normalize !== "none";
  $("needed-said").textContent = needed
    ? `For your n, m, rule and noise: ${needed.samples} samples (95 % interval ${needed.low} to ${needed.high}, `
      + `${needed.measured ? "measured" : "interpolated"}) let 95 % of the students recover by the ${noise ? "vote" : "last iterate"}`
      + `${other ? ", with Gaussian inputs of mean 0" : ""}.`
    : "How many samples your setting needs stands in no table (n = 8 to 64, to 32 with noise): simulate it with the command below.";
  const half = requiredSamples(TABLE, settings, 0.5, iterate);
  $("half").replaceChildren(...(half ? [new Option("half recover", String(Math.log(half.samples)))] : []));
}

function tell() {
  const { n, m, N, noise, lr, rule, width, law, shift, normalize, optimizer, momentum, from } = settings;
  const inputs = law === "gaussian" && shift ? `{"name": "gaussian", "mean": ${number(shift)}}`
    : law === "spread" ? '{"name": "gaussian", "std_spread": 1.0}' : `"${law}"`;
  const named = { odd_sign: 'counterexample("odd_sign")', clipped: `{"rule": "clipped", "width": ${number(width)}}` };
  const odd = rule === "odd_sign" ? "from ste_lightning.theory.counterexamples import counterexample\n" : "";
  const more = { plain: "", momentum: `, momentum=${number(momentum)}`, adam: ', optimizer="adam"' }[optimizer]
    + (from ? `,\n    burn_in=${from}, steps=${from + 2000}` : "");
  const students = `from ste_lightning.theory import simulate\n${odd}`
    + `students = simulate(n=${n}, m=${m}, samples=${N}, noise=${number(noise)}, lr=${number(lr)},\n`
    + `    rule=${named[rule] || `"${rule}"`}, inputs=${inputs}, normalize="${normalize}"${more}`;
  const commands = {
    pretend: "import torch\nimport ste_lightning.functional as SF\nx = torch.tensor(0.9, requires_grad=True)\n"
      + "((SF.sign(x, rule=\"clipped\") + 1) ** 2 / 4).backward()\nprint(x.grad)  # 1; with the true slope it were 0",
    "by-hand": `${students}, trials=1, steps=1)\nprint(students.teacher, students.latent)`,
    samples: `from ste_lightning.theory import required_samples\nprint(required_samples(${n}, ${m}, "${rule}", noise=${number(noise)}))`,
  };
  $("command").textContent = commands[scene.id] || `${students})\nprint(students)`
    + (from ? "  # burn_in: time and escapes; the average is over all steps" : "");
  drawPlace();
}
