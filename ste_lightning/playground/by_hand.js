"use strict";
// The two scenes without a training that runs: one weight, and one step in numbers.
// Scene 1: one weight x with the right sign -1, loss (sign(x) + 1)^2 / 4.
const lone = { x: 0.9, drawn: "" };

function playLone(seconds) {
  const pretended = $("pretended").checked;
  const wrong = lone.x >= 0;
  const moves = wrong && pretended && lone.x <= 1;
  if (playing && moves && document.activeElement !== $("lone")) lone.x -= 0.25 * seconds;
  const state = `${lone.x} ${pretended}`;
  if (state === lone.drawn) return;
  lone.drawn = state;
  drawLone(lone.x, pretended);
  $("lone").value = lone.x;
  $("value-lone").textContent = lone.x.toFixed(2);
  const said = !wrong ? "The sign is right and the loss is 0: x stays."
    : moves ? "Pretended slope 1: x walks down."
    : pretended ? "Beyond 1 the pretended slope is 0 too: x stays."
    : "True slope 0: x never moves, the loss stays 1.";
  if ($("pretend-said").textContent !== said) $("pretend-said").textContent = said;
}

// Scene 2: the numbers of one step.
function drawHand(before) {
  const { n, m, N, Z, latent, teacher, g, lr } = student;
  const rows = [];
  const signs = Array.from(student.signs);
  const sign = (s) => (s > 0 ? "+1" : "−1");
  const flipped = (k) => before && before[k] !== signs[k];
  const head = ["sample", ...signs.map((_, k) => `z${k + 1}`), "Zw √n", "says", "label", "error r", "f′"];
  for (let i = 0; i < N; i++) {
    const y = student.output(i, student.signs);
    const a = student.hidden[0];
    rows.push([i + 1, ...Array.from(Z.slice(i * m * n, i * m * n + n), (z) => z.toFixed(2)), a.toFixed(2), y, student.labels[i],
      (y - student.labels[i]).toFixed(0), RULES[student.rule](a / Math.sqrt(n), student.width)]);
  }
  const blank = ["", "", "", "", ""];
  rows.push(["gradient g", ...Array.from(g, (v) => v.toFixed(3)), ...blank]);
  rows.push(["latent x", ...Array.from(latent, (v) => v.toFixed(3)), ...blank]);
  rows.push([`next x − ${number(lr)} g`, ...Array.from(latent, (v, k) => `${g[k] > 0 ? "↓" : g[k] < 0 ? "↑" : "→"} ${(v - lr * g[k]).toFixed(3)}`), ...blank]);
  rows.push(["sign of x", ...signs.map((s, k) => [sign(s), flipped(k)]), ...blank]);
  rows.push(["teacher", ...Array.from(teacher, sign), ...blank]);
  const table = $("hand");
  table.replaceChildren();
  const first = table.createTHead().insertRow();
  for (const text of head) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    first.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((part, column) => {
      const [text, marked] = Array.isArray(part) ? part : [part, false];
      const cell = document.createElement(column ? "td" : "th");
      if (!column) cell.scope = "row";
      cell.textContent = text;
      if (marked) cell.className = "flip";
      line.append(cell);
    });
  }
  const still = g.every((v) => v === 0);
  $("hand-step").disabled = still;
  const turned = signs.map((_, k) => k + 1).filter((_, k) => flipped(k));
  const moved = !before ? "" : turned.length ? `The sign of x${turned.join(", x")} flipped. ` : "No sign flipped: the answers stay, and so does g. ";
  $("hand-said").textContent = moved + (still ? "All answers are right: g is 0, nothing moves any more." : `${student.wrong} of ${n} signs are wrong.`);
}
