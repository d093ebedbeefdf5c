"""Hundreds of teacher-student trainings at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError, require, require_positive_integer, unknown
from ste_lightning.functional.estimator.eager import untraced
from ste_lightning.theory.engine import batched, cpu
from ste_lightning.theory.engine.chunks import Chunk, cores, plan, work_through
from ste_lightning.theory.engine.families import family_of
from ste_lightning.theory.engine.problem import Problem, ProblemLaw
from ste_lightning.theory.engine.record import Record
from ste_lightning.theory.simulation import Simulation

__all__ = ["simulate"]

# Of a trial's data, while it is in work: drawn, normalized, packed; whitening counts in float64.
_COPIES, _WHITENING_COPIES = 4, 6


@untraced
def simulate(
    *,
    n: int,
    m: int = 4,
    samples: int,
    trials: int = 64,
    steps: int = 2000,
    lr: float = 1.0,
    rule: SF.RuleSpec = "relu",
    weight_rule: SF.RuleSpec = "identity",
    v: str | Tensor = "ones",
    train_v: bool = False,
    v_init: str | Tensor | None = None,
    lr_v: float | None = None,
    noise: float = 0.0,
    inputs: str | Mapping[str, Any] | Tensor = "gaussian",
    normalize: str = "none",
    labels: str = "normalized",
    init_scale: float = 0.1,
    batch_size: int | None = None,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    seed: int = 0,
    every: int = 1,
    burn_in: int = 0,
    return_bins: int = 512,
    lazy: bool = True,
    backend: str = "auto",
    device: str | torch.device = "cpu",
    threads: int | None = None,
    memory: float = 1.0,
) -> Simulation:
    r"""Train many binary two-layer networks by the straight-through estimator.

    The model y = v^T step(Z w), w = sign(x) / sqrt(n), and the update

        g = (1/N) sum_i Z_i^T (f'(Z_i w) * v) r_i,    x <- x - lr * g * h'(x)

    are those of :class:`ste_lightning.models.BinaryTwoLayer`; the data for a seed are those of
    :class:`ste_lightning.data.TeacherStudent`. A trial's result depends on (seed, its number)
    alone: not on the number of trials, chunks or threads.

    Args:
        n: inputs of the first layer.
        m: rows of a sample, hidden units; default 4.
        samples: N, samples of a trial.
        trials: independent problems; default 64.
        steps: T, updates; default 2000.
        lr: step size on the coarse gradient with respect to w; default 1.
        rule: the step's backward rule: a name, ``{"rule": name, **parameters}`` or a rule.
        weight_rule: the backward rule of the weights' sign, likewise; default identity.
        v: the teacher's second layer: ``ones`` (1/sqrt(m) each), ``gaussian`` (on the unit
            sphere) or a tensor (m,) or (trials, m).
        train_v: whether the student trains v too; default no.
        v_init: the student's v at the start: ``teacher``, ``opposite`` (-v*), ``zeros``,
            ``random`` (by the law ``v``), ``gaussian`` (on the unit sphere, whatever the law)
            or a tensor; default ``teacher``, or ``zeros`` if v is trained (theory's advice:
            other starts end at -w* more often).
        lr_v: learning rate of v; default ``lr``.
        noise: standard deviation of the label noise, drawn once.
        inputs: distribution of Z: a name, a mapping with ``name`` and parameters, or a tensor
            (rows, n) of real data.
        normalize: ``none``, ``center``, ``standardize`` (each feature), ``layer_norm`` (each row),
            ``standardize_layer_norm`` (one after the other) or ``whitening``.
        labels: whether the teacher sees ``normalized`` inputs, as the student, or ``raw`` ones.
        init_scale: standard deviation of x_0; default 0.1.
        batch_size: samples of a step; default all.
        optimizer: of x and v: ``sgd``, ``adam``, ...; default plain gradient descent.
        momentum: of ``sgd``.
        seed: of everything random.
        every: distance of the points of the ``hamming`` and ``loss`` traces; default 1.
        burn_in: first steps not counted for visits, escapes and returns.
        return_bins: columns of the histogram of return times.
        lazy: reuse the gradient until a sign flips (same bits); ``False`` for timing only.
        backend: ``numba`` (compiled; CPU, full batch, fixed v, plain gradient descent, the
            usual rules), ``torch`` (everything), or ``auto``: numba where it can.
        device: where the torch backend computes.
        threads: of the CPU backends; default: the cores this process may use.
        memory: GiB that the data of all trials in work may take together; default 1. Fewer
            threads work where it is too small for a trial each. The result comes on top: mostly
            the traces, 8 trials (steps / every) bytes.

    Returns:
        A :class:`Simulation`: per-trial tensors.

    Raises:
        ConfigurationError: for a setting that cannot work, before anything is computed.

    Source: arXiv 2505.18113 (the binary model); Yin et al. 2019, arXiv 1903.05662.
    """
    sizes = {"n": n, "m": m, "samples": samples, "trials": trials}
    lengths = {"steps": steps, "every": every, "return_bins": return_bins}
    for argument, value in (sizes | lengths).items():
        require_positive_integer(argument, value)
    require(lr > 0, "lr", lr, "use a positive number")
    require(0 <= burn_in < steps, "burn_in", burn_in, f"use 0 to steps - 1 = {steps - 1}")
    require(threads is None or threads > 0, "threads", threads, "use a positive integer")
    require(memory > 0, "memory", memory, "use a positive number of GiB")
    require(
        batch_size is None or 0 < batch_size <= samples,
        "batch_size",
        batch_size,
        f"use 1 to samples={samples}, or None for the full batch",
    )
    start = v_init if v_init is not None else ("zeros" if train_v else "teacher")
    law = ProblemLaw(n, m, samples, inputs, normalize, labels, noise, v, start, init_scale, seed)
    for argument, given in {"v": v, "v_init": start}.items():
        if isinstance(given, Tensor) and given.dim() == 2:
            require(
                len(given) == trials, argument, tuple(given.shape), f"give trials={trials} rows"
            )
    step_rule, sign_rule = SF.surrogate(rule), SF.surrogate(weight_rule)
    device = torch.device(device)
    families = (family_of(step_rule), family_of(sign_rule))
    obstacle = _obstacle(families, device, batch_size, train_v, optimizer, momentum)
    if backend not in ("auto", "numba", "torch"):
        raise unknown("backend", backend, ("auto", "numba", "torch"))
    if backend == "numba" and obstacle:
        raise ConfigurationError(f"backend='numba' cannot run {obstacle}: use backend='torch'.")
    compiled = backend != "torch" and not obstacle

    def work(chunk: Chunk) -> tuple[Record, Tensor]:
        problem = law.draw(*chunk)
        if not compiled:
            problem = Problem(*(t.to(device) for t in vars(problem).values()))
        record = Record.empty(problem.latent, problem.v, steps, every, return_bins)
        common: dict[str, Any] = {"steps": steps, "lr": lr, "every": every, "burn_in": burn_in}
        if compiled and families[0] is not None and families[1] is not None:
            cpu.run(problem, record, rule=families[0], weight_rule=families[1], lazy=lazy, **common)
        else:
            batched.run(
                problem,
                record,
                rule=step_rule,
                weight_rule=sign_rule,
                train_v=train_v,
                lr_v=lr_v,
                batch_size=batch_size,
                optimizer=optimizer,
                momentum=momentum,
                seed=seed,
                **common,
            )
        return record, problem.teacher

    copies = _WHITENING_COPIES if normalize == "whitening" else _COPIES
    workers, chunks = plan(
        trials,
        copies * 4 * samples * m * n,
        threads or cores() if device.type == "cpu" else 1,
        memory,
        pieces=4 if compiled else 1,
    )
    record = Record.empty(torch.empty(trials, n), torch.empty(trials, m), steps, every, return_bins)
    teacher = torch.empty(trials, n)
    for (first, count), (part, signs) in work_through(work, chunks, workers):
        record.take(first, part)
        teacher[first : first + count] = signs
    return Simulation.from_record(
        record, teacher, sign_rule, steps=steps, every=every, burn_in=burn_in
    )


def _obstacle(
    families: tuple[object, object],
    device: torch.device,
    batch_size: int | None,
    train_v: bool,
    optimizer: str,
    momentum: float,
) -> str:
    """Return why the compiled kernel cannot run this, or an empty string."""
    reasons = {
        "this rule": families[0] is None,
        "this weight_rule": families[1] is None,
        f"on device={str(device)!r}": device.type != "cpu",
        "minibatches": batch_size is not None,
        "train_v=True": train_v,
        f"optimizer={optimizer!r}": optimizer != "sgd",
        f"momentum={momentum}": momentum != 0,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
