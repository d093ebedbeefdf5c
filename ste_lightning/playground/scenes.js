"use strict";
// Guided scenes: settings, one sentence on what to look for, what the paper says, what to try.
const USUAL = { n: 32, m: 4, noise: 0, lr: 1, rule: "relu", width: 1, law: "gaussian", shift: 0, normalize: "none", optimizer: "plain", momentum: 0.9, from: 0, speed: 120 };
const SCENES = [
  {
    id: "pretend",
    title: "1 Why pretend?",
    look: "Slide x: the loss is a staircase whose true slope is 0, so the weight never moves; tick the pretended slope and it walks downhill until its sign is right.",
    paper: "the straight-through estimator computes forward with the sign and backward with the slope of another function.",
  },
  {
    id: "by-hand",
    title: "2 One step by hand",
    look: "Follow one step from left to right: inputs, hidden unit, answer, label, error, pretended slope; the gradient g moves every latent weight, and a sign flips only when its latent weight crosses 0.",
    paper: "g = (1/N) Σ Zᵢᵀ (f′(Zᵢw) ⊙ v) rᵢ is the coarse gradient.",
    settings: { ...USUAL, n: 3, m: 1, N: 4, lr: 0.5, seed: 54 },
  },
  {
    id: "trap-door",
    title: "3 A trap door",
    look: "Without label noise the first arrival at the teacher is the last step: all answers are right, so the gradient is exactly 0 and every line runs flat.",
    paper: "without noise the teacher w* is absorbing for plain descent.",
    settings: { ...USUAL, n: 16, N: 512, seed: 1, speed: 6 },
    tries: [["Add label noise", { noise: 0.5 }], ["Fewer samples", { N: 24 }]],
  },
  {
    id: "sawtooth",
    title: "4 The sawtooth",
    look: "With label noise the thick line's weight is pushed off its right sign by a force g and driven back by a stronger one, a sawtooth around 0; change the step size and only the height of the teeth changes, not the share of time on the wrong side.",
    paper: "under label noise the iterates leave the teacher and return to it, again and again.",
    settings: { ...USUAL, n: 16, N: 512, noise: 0.5, lr: 0.3, seed: 2, speed: 40 },
    tries: [["Step size × 10", { lr: 3 }], ["Four times the samples", { N: 2048 }]],
  },
  {
    id: "vote",
    title: "5 The vote",
    look: "The last iterate always keeps some wrong signs, never the same ones; a vote of each weight's sign over all steps is right: compare the two lamps.",
    paper: "O(n²) samples are proved to suffice for the averaged iterate and O(n⁴) for the last one; we measure n^1.15 and n^2.14 from n = 128 to 256 (m = 1, identity rule).",
    settings: { ...USUAL, n: 128, m: 1, N: 448, rule: "identity", seed: 7 },
    tries: [["Too few for both", { N: 250 }], ["Enough for both", { N: 1200 }]],
  },
  {
    id: "mean",
    title: "6 The mean kills ReLU",
    look: "Inputs with a mean push every hidden unit below 0, and a unit that is off passes no gradient on: the student is dead; centre the inputs and it learns.",
    paper: "normalization restores recovery on inputs that are not Gaussian.",
    settings: { ...USUAL, N: 512, shift: 2, seed: 4, speed: 20 },
    tries: [["Centre the inputs", { normalize: "center" }], ["A rule that is never off", { rule: "identity" }]],
  },
  {
    id: "momentum",
    title: "7 Momentum overshoots",
    look: "At the teacher the gradient is 0 but the momentum is not: the weights roll on through the trap door and have to come back, until the momentum has died away.",
    paper: "absorption is proved for plain descent; an optimizer with memory can leave w* (our observation).",
    settings: { ...USUAL, N: 2048, optimizer: "momentum", seed: 3, speed: 6 },
    tries: [["Plain descent", { optimizer: "plain" }], ["Adam", { optimizer: "adam", lr: 0.02, seed: 1 }]],
  },
  {
    id: "samples",
    title: "8 How many samples?",
    look: "Move N across the lines of the diagram: below them hardly a student finds its teacher, above them nearly all do; for your n, m, rule and noise the sentence below it says how many samples you need.",
    paper: "the number of samples decides; N50 is where half of the students recover their teacher.",
    settings: { ...USUAL, N: 96, seed: 6 },
    tries: [["Half as many", { N: 48 }], ["Three times as many", { N: 288 }]],
  },
];

if (typeof module !== "undefined") module.exports = { SCENES };
