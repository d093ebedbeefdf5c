"""The engine against a NumPy reference, Lightning, and itself in other settings."""

import dataclasses

import lightning as L
import numpy as np
import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.theory.engine.families import family_of
from ste_lightning.theory.simulate import simulate
from ste_lightning.theory.simulation import Simulation

SMALL = {"n": 12, "m": 4, "samples": 50, "trials": 6, "steps": 60}


def assert_equal(a: Simulation, b: Simulation, *, but: tuple[str, ...] = ()) -> None:
    for field in dataclasses.fields(Simulation):
        if field.name not in but:
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(x.nan_to_num(nan=-1.0), y.nan_to_num(nan=-1.0)), field.name


def reference(Z, y, x, v, derivative, steps, lr, weight_derivative=np.ones_like):
    """docs/theory's update, for one trial, in ten lines."""
    latents = []
    for _ in range(steps):
        w = np.where(x >= 0, 1, -1).astype(np.float32)
        a = (Z @ w) / np.float32(np.sqrt(len(x)))
        r = (a > 0) @ v - y
        g = np.einsum("imn,im,m,i->n", Z, derivative(a), v, r) / len(y)
        x = (x - np.float32(lr) * g * weight_derivative(x)).astype(np.float32)
        latents.append(x)
    return np.stack(latents)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(
    ("rule", "weight_rule", "m"),
    [("relu", "identity", 4), ("identity", "clipped", 1), ("triangular", "tanh", 3)],
)
def test_follows_the_numpy_reference(backend, rule, weight_rule, m):
    settings = {
        "n": 12,
        "m": m,
        "samples": 50,
        "trials": 3,
        "noise": 0.3,
        "v": "gaussian",
        "seed": 5,
    }
    data = TeacherStudent(**settings)
    model = BinaryTwoLayer(n=12, m=m, trials=3, seed=5, init_scale=0.3)
    result = simulate(
        **settings,
        steps=40,
        lr=0.3,
        rule=rule,
        weight_rule=weight_rule,
        init_scale=0.3,
        backend=backend,
    )
    (Z, y), (w_star, v) = data.train_data, data.teacher
    for t in range(3):

        def derivative(a, name=rule):
            return SF.surrogate(name).derivative(torch.from_numpy(a)).numpy()

        def weight_derivative(x):
            return derivative(x, weight_rule)

        latents = reference(
            Z[t].numpy(),
            y[t].numpy(),
            model.weight[t].detach().numpy(),
            v[t].numpy(),
            derivative,
            40,
            0.3,
            weight_derivative,
        )
        hamming = ((latents >= 0) != (w_star[t].numpy() > 0)).sum(1)
        assert result.hamming[t, 1:].tolist() == hamming.tolist()
        np.testing.assert_allclose(result.latent[t], latents[-1], atol=1e-6)
        signs = np.where(np.stack([model.weight[t].detach().numpy(), *latents]) >= 0, 1, -1)
        assert result.flips[t] == (signs[1:] != signs[:-1]).sum()
        np.testing.assert_allclose(result.average[t], signs[1:].mean(0))
        a = np.einsum("imn,tn->tim", Z[t].numpy(), signs / np.sqrt(12))
        residual = (a > 0) @ v[t].numpy() - y[t].numpy()
        np.testing.assert_allclose(result.loss[t], (residual**2).mean(1) / 2, rtol=1e-5)
    assert torch.equal(result.teacher, w_star.sign())


@pytest.mark.parametrize("settings", [{}, {"noise": 0.5, "burn_in": 20}, {"momentum": 0.9}])
def test_equals_training_by_lightning(settings, tmp_path):
    noise, burn_in = settings.get("noise", 0.0), settings.get("burn_in", 0)
    momentum = settings.get("momentum", 0.0)
    data = TeacherStudent(
        **{k: SMALL[k] for k in ("n", "m", "samples", "trials")},
        noise=noise,
        steps_per_epoch=60,
        seed=3,
    )
    model = BinaryTwoLayer(
        n=12, m=4, trials=6, seed=3, trace_steps=60, burn_in=burn_in, momentum=momentum
    )
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    expected = model.result()
    result = simulate(**SMALL, noise=noise, momentum=momentum, burn_in=burn_in, seed=3)
    torch.testing.assert_close(result.latent, model.weight.detach(), atol=5e-6, rtol=0)
    assert torch.equal(result.hamming[:, 1:], expected["hamming_trace"].T)
    for name in ("last_recovery", "ergodic_recovery", "fraction_at_teacher", "dead", "first_hit"):
        assert torch.equal(getattr(result, name).float(), expected[name].float()), name
    if not burn_in:
        assert torch.equal(result.escapes, expected["escapes"])
        assert torch.equal(result.return_histogram, expected["return_times"])


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("rule", ["relu", "gaussian"])
def test_lazy_gradients_change_no_bit(noise, rule):
    settings = {**SMALL, "steps": 200, "noise": noise, "rule": rule, "every": 3}
    lazy, eager = (simulate(**settings, lazy=lazy) for lazy in (True, False))
    assert_equal(lazy, eager, but=("evaluations",))
    assert lazy.evaluations.sum() < eager.evaluations.sum()


def test_chunks_threads_and_neighbours_change_no_bit():
    settings = {**SMALL, "noise": 0.3, "v": "gaussian", "normalize": "standardize"}
    whole = simulate(**settings, threads=1)
    assert_equal(whole, simulate(**settings, threads=3, memory=1e-4))
    fewer = simulate(**{**settings, "trials": 2}, threads=2)
    assert torch.equal(fewer.latent, whole.latent[:2])
    batched = simulate(**settings, backend="torch", threads=1)
    assert_equal(batched, simulate(**settings, backend="torch", threads=2, memory=1e-4))


@pytest.mark.parametrize("name", [n for n in SF.surrogate_names() if n != "custom"])
def test_compiled_derivatives_are_the_rules_own(name):
    from ste_lightning.theory.engine.derivatives import differentiate

    rule = SF.surrogate(name)
    family = family_of(rule)
    if family is None:
        assert name in ("fourier", "magnitude_aware")
        return
    edges = [-1.5, -1.0, -0.1, -0.0, 0.0, 0.1, 0.5, 1.0, 1.5, 30.0]
    x = torch.cat([torch.linspace(-9, 9, 4001), torch.tensor(edges)])
    out = np.empty(len(x), np.float32)
    differentiate(*family, x.numpy(), np.float32(1), out, len(x))
    torch.testing.assert_close(torch.from_numpy(out), rule.derivative(x), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(("m", "n", "samples"), [(1, 1, 3), (2, 5, 17), (5, 3, 70), (16, 9, 20)])
def test_backends_agree_for_odd_shapes(m, n, samples):
    settings = {"n": n, "m": m, "samples": samples, "trials": 3, "steps": 30}
    a, b = (simulate(**settings, backend=backend) for backend in ("numba", "torch"))
    assert torch.equal(a.hamming, b.hamming)
    torch.testing.assert_close(a.loss, b.loss)


def test_minibatches_are_those_of_the_data_module():
    result = simulate(**{**SMALL, "steps": 5}, batch_size=10, seed=2)
    data = TeacherStudent(n=12, m=4, samples=50, trials=6, batch_size=10, seed=2)
    first = next(iter(data.train_dataloader()))
    model = BinaryTwoLayer(n=12, m=4, trials=6, seed=2)
    y = model.v[:, None] * ((first[0] @ model.weight.sign()[:, None, :, None])[..., 0] > 0)
    w_star, v_star = data.teacher
    model.set_teacher(w_star, v_star)
    y = (((first[0] @ model.weight.sign()[:, None, :, None])[..., 0] > 0) * v_star[:, None]).sum(-1)
    torch.testing.assert_close(result.loss[:, 0], (y - first[1]).square().mean(1) / 2)


def test_compiles_where_no_cache_can_be_written(tmp_path):
    from ste_lightning.kernels.jit.compiling import compiled

    # numba finds no place for the cache of a function whose source file does not exist.
    scope: dict = {}
    exec(compile("def twice(x):\n    return 2 * x", str(tmp_path / "gone.py"), "exec"), scope)
    assert compiled(scope["twice"])(21) == 42
