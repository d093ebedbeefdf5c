"""What single quantizers promise beyond the table: oracles, statistics, and peers' known faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConvTranspose2d, QuantLinear
from ste_lightning.quantizers import LSQ, PACT, Quantizer, Uniform, build, quantizer_names
from ste_lightning.quantizers.levels import join_groups, split_groups
from ste_lightning.quantizers.power_of_two import additive_powers, powers
from ste_lightning.quantizers.scaling import power_of_two_scale, standardize

f64 = torch.float64


def make(spec: Any, operand: Any = "weights") -> Quantizer:
    quantizer = build(spec, operand)
    assert isinstance(quantizer, Quantizer)
    return quantizer


# --- rounding ---------------------------------------------------------------------------------


def test_round_is_half_to_even_with_the_classical_gradient() -> None:
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.4, 2.6], dtype=f64, requires_grad=True)
    y = SF.round(x)
    assert y.tolist() == [-2, 0, 0, 2, 2, 3]
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["clipped", "approx", "triangular"])
def test_a_bump_per_transition_integrates_to_one_step(rule: str) -> None:
    x = torch.linspace(-3, 3, 60_001, dtype=f64, requires_grad=True)
    SF.round(x, SF.surrogate(rule)).sum().backward()
    assert x.grad is not None
    peak = x.grad[(x - 0.5).abs().argmin()]
    torch.testing.assert_close(peak, x.grad.max())
    expected = {"clipped": 6.0, "approx": 6.0, "triangular": 3.0}[rule]
    assert float(torch.trapezoid(x.grad, x.detach())) == pytest.approx(expected, rel=1e-3)


def test_integers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="floating-point"):
        SF.round(torch.tensor([1]))


# --- oracles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_lsq_agrees_with_torchs_learnable_fake_quantize(bits: int) -> None:
    torch.manual_seed(bits)
    q = LSQ(bits, operand="weights")
    x = torch.randn(64, 16)
    q.initialize(x)
    # torch passes the gradient also half a step beyond the last levels; the paper does not
    v = x / q.scale.detach()
    beyond = ((v > q.high - 0.01) & (v < q.high + 0.51)) | ((v < q.low + 0.01) & (v > q.low - 0.51))
    x = torch.where(beyond, 0.0, x).requires_grad_()
    upstream = torch.randn(64, 16)
    y = q(x)
    ours = torch.autograd.grad((y * upstream).sum(), [x, q.scale])
    scale = q.scale.detach().reshape(1).requires_grad_()
    theirs_y = torch._fake_quantize_learnable_per_tensor_affine(
        x, scale, torch.zeros(1), q.low, q.high, (x.numel() * q.high) ** -0.5
    )
    theirs = torch.autograd.grad((theirs_y * upstream).sum(), [x, scale])
    torch.testing.assert_close(y, theirs_y)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1].reshape(()), rtol=1e-4, atol=1e-5)


def test_lsq_at_the_boundary_follows_the_paper() -> None:
    q = make({"map": "lsq", "bits": 3}).double()
    q.initialize(torch.ones(4))
    with torch.no_grad():
        q.get_parameter("scale").fill_(1.0)
    x = torch.tensor([3.0, -4.0], dtype=f64, requires_grad=True)
    by_x, by_scale = torch.autograd.grad(q(x).sum(), [x, q.get_parameter("scale")])
    assert by_x.tolist() == [0, 0]  # 1[Q_n < v < Q_p] is strict
    assert float(by_scale) == pytest.approx((3 - 4) / (2 * 3) ** 0.5)


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ({"map": "lsq", "bits": 2}, "scale"),
        ({"map": "lsq_plus", "bits": 2}, "scale"),
        ({"map": "apot", "bits": 4}, "alpha"),
        ("pact", "alpha"),
        ("n2uq", "scale_in"),
    ],
    ids=str,
)
def test_a_step_at_or_below_zero_comes_back_and_says_so(spec: Any, step: str) -> None:
    q = make(spec, "activations")
    x = torch.randn(8, 4)
    q(x)
    parameter = q.get_parameter(step)
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(-0.1)
    with pytest.raises(ConfigurationError, match=r"learned step .* is -0.1, not positive"):
        q.check("input")
    with pytest.warns(UserWarning, match=f"learned step '{step}' .* was -0.1"):
        q(x).sum().backward()
    torch.testing.assert_close(parameter.detach(), before)
    q.check("input")


def test_only_the_channels_that_collapsed_start_again() -> None:
    spec = {"map": "lsq", "bits": 3, "granularity": "channel"}
    layer = QuantLinear(16, 4, weight_quantizer=spec, input_quantizer=None)
    scale = layer.weight_quantizer.get_parameter("scale")
    with torch.no_grad():
        start = scale.clone()
        scale.mul_(2)[1].fill_(0)
    with pytest.warns(UserWarning, match="learned step"):
        layer(torch.randn(2, 16))
    torch.testing.assert_close(scale.detach(), torch.where(scale == start, start, 2 * start))
    assert torch.equal(scale[1], start[1])


@pytest.mark.parametrize("map_", ["lsq", "lsq_plus"])
def test_a_learned_step_for_each_group(map_: str) -> None:
    torch.manual_seed(0)
    spec = {"map": map_, "bits": 3, "group_size": 4}
    layer = QuantLinear(16, 3, weight_quantizer=spec, input_quantizer=None)
    q = layer.weight_quantizer
    assert isinstance(q, LSQ)
    assert q.scale.shape == (3, 4, 1)
    alone = build({**spec, "granularity": "channel", "group_size": None}, "weights")
    assert isinstance(alone, LSQ)
    groups = layer.weight.detach().reshape(12, 4)
    alone.initialize(groups)  # twelve groups are twelve channels
    torch.testing.assert_close(layer.quantized_weight(), alone(groups).reshape(3, 16))
    levels, scale = q.integer_levels(layer.weight)
    torch.testing.assert_close(levels * scale, layer.quantized_weight().detach())
    layer(torch.randn(5, 16)).square().sum().backward()
    assert q.scale.grad is not None
    assert bool((q.scale.grad != 0).all())
    other = QuantLinear(16, 3, weight_quantizer=spec, input_quantizer=None)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.quantized_weight(), layer.quantized_weight())
    with pytest.raises(ConfigurationError, match=r"group_size=5 .* must divide the 16 inputs"):
        QuantLinear(16, 3, weight_quantizer={**spec, "group_size": 5}, input_quantizer=None)
    with pytest.raises(ConfigurationError, match="per channel or group is for weights"):
        build(spec, "activations")


def test_lsq_per_channel_has_a_step_for_each() -> None:
    spec = {"map": "lsq", "bits": 3, "granularity": "channel"}
    layer = QuantLinear(16, 4, weight_quantizer=spec, input_quantizer=None)
    q = layer.weight_quantizer
    assert isinstance(q, LSQ)
    assert q.scale.shape == (4, 1)
    expected = 2 * layer.weight.detach().abs().mean(1, keepdim=True) / 3**0.5
    torch.testing.assert_close(q.scale.detach(), expected)
    fresh = QuantLinear(16, 4, weight_quantizer=spec, input_quantizer=None)
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(2, 16)
    torch.testing.assert_close(fresh(x), layer(x))


def test_libra_differentiates_through_the_standardization() -> None:
    q = make({"map": "libra", "t": 2.0}).double()
    w = torch.randn(3, 4, 2, dtype=f64, requires_grad=True)
    upstream = torch.randn_like(w)
    ours = torch.autograd.grad((q(w) * upstream).sum(), w)[0]
    centred = w - w.mean((1, 2), keepdim=True)
    v = centred / w.std((1, 2), keepdim=True)  # unbiased
    scale = 2 ** v.detach().abs().mean((1, 2), keepdim=True).log2().round()
    expected = torch.autograd.grad((scale * torch.tanh(2 * v) * upstream).sum(), w)[0]
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("shape", [(3, 1), (3, 1, 1, 1), (3,), (2, 4)])
def test_libra_survives_constant_filters_and_one_input(shape: tuple[int, ...]) -> None:
    w = torch.full(shape, -0.3, requires_grad=True)
    q = make("libra")
    y = q(w)
    assert torch.equal(y, torch.full(shape, -0.25))  # sign(w) 2^round(log2 0.3)
    y.sum().backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()
    assert standardize(torch.zeros(2, 4), (1,)).eq(0).all()
    assert power_of_two_scale(torch.zeros(2, 4), (1,)).eq(1).all()


def test_power_grids_are_the_papers() -> None:
    assert powers(3) == (0, 1, 2, 4, 8, 16, 32, 64)
    assert additive_powers(1) == (0, 1)
    assert additive_powers(2) == (0, 1, 2, 4)
    assert additive_powers(3) == (0, 1, 2, 3, 4, 6, 8, 10)
    # 2^0 + 2^-1 + ... as multiples of 2^-6: {0, 32, 8, 2} + {0, 16, 4, 1}
    assert additive_powers(4) == (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48)
    for bits in range(1, 9):
        assert len(additive_powers(bits)) == 2**bits


# --- uniform ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("range_", ["minmax", "mse"])
def test_uniform_uses_its_bits_and_errs_by_half_a_step(
    bits: int, symmetric: bool, range_: str
) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 256)
    q = Uniform(bits, symmetric=symmetric, range=range_, operand="weights")
    y = q(x)
    levels, scale = q.integer_levels(x)
    if bits > 1 and range_ == "minmax":
        assert ((y - x).abs() <= scale * (0.5 if symmetric else 1.0) + 1e-6).all()
    for channel in levels:
        assert 2 <= len(channel.unique()) <= 2**bits
    if range_ == "mse":
        plain = Uniform(bits, symmetric=symmetric, operand="weights")
        assert (y - x).square().sum() <= (plain(x) - x).square().sum()


def test_one_bit_weights_do_not_vanish() -> None:
    """torchao's symmetric int1 turns every weight into 0."""
    w = torch.randn(8, 16)
    for name in ("uniform", "lsq", "dorefa", "n2uq_weights"):
        q = make({"map": name, "bits": 1})
        if hasattr(q, "initialize"):
            q.initialize(w)
        assert (q(w).sign() == w.sign()).all(), name


def test_groups_follow_the_channel_of_transposed_convolutions() -> None:
    spec = {"map": "uniform", "bits": 4}
    layer = QuantConvTranspose2d(3, 5, 2, weight_quantizer=spec, input_quantizer=None)
    assert isinstance(layer.weight_quantizer, Uniform)
    assert layer.weight_quantizer.channel_dim == 1
    assert layer.weight_quantizer.integer_levels(layer.weight)[1].shape == (1, 5, 1, 1)
    grouped = Uniform(4, group_size=4, operand="weights", channel_dim=1)
    moved = Uniform(4, group_size=4, operand="weights")
    torch.testing.assert_close(
        grouped(layer.weight), moved(layer.weight.transpose(0, 1)).transpose(0, 1)
    )


def an_optimizer_step() -> None:
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1).step()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_running_range_moves_once_per_optimizer_step(compiled: bool) -> None:
    q = Uniform(8)
    run = torch.compile(q, backend="eager", fullgraph=True) if compiled else q
    run(torch.tensor([[-1.0, 3.0]]))
    an_optimizer_step()
    wide, narrow = torch.tensor([[-1.0, 13.0]]), torch.tensor([[0.0, 4.0, 1.234]])
    first = run(wide), run(narrow)
    again = run(narrow), run(wide)  # in another order, as a backward pass would
    assert torch.equal(first[0], again[1])
    assert torch.equal(first[1], again[0])
    assert float(q.maximum) == pytest.approx(4.0)  # towards the union of both
    an_optimizer_step()
    run(wide)
    assert float(q.maximum) == pytest.approx(4.9)


def test_activations_keep_a_running_range_for_evaluation() -> None:
    q = Uniform(8)
    q(torch.tensor([[-1.0, 3.0]]))
    assert (float(q.minimum), float(q.maximum)) == (-1.0, 3.0)
    an_optimizer_step()
    q(torch.tensor([[-1.0, 13.0]]))
    assert float(q.maximum) == pytest.approx(4.0)
    x = torch.randn(4, 4)
    alone = q.eval()(x[:1])
    torch.testing.assert_close(alone, q(x)[:1])  # does not depend on the rest of the batch
    assert float(q.maximum) == pytest.approx(4.0)
    q.initialize(torch.tensor([0.0, 2.0]))
    assert (float(q.minimum), float(q.maximum)) == (0.0, 2.0)


# --- stochastic -------------------------------------------------------------------------------


def test_stochastic_quantizers_are_unbiased_in_training_and_fixed_in_evaluation() -> None:
    torch.manual_seed(0)
    x = torch.tensor([-1.4, -0.6, 0.0, 0.3, 0.9]).expand(20_000, 5)
    q = make("stochastic_sign")
    torch.testing.assert_close(q(x).mean(0), x[0].clamp(-1, 1), atol=0.025, rtol=0)
    q = make({"map": "stochastic_uniform", "bits": 3, "granularity": "tensor"})
    y = q(x)
    torch.testing.assert_close(y.mean(0), x[0], atol=0.01, rtol=0)
    assert y[:, 0].unique().numel() == 1  # on the grid: nothing to draw
    torch.testing.assert_close(q.eval()(x), Uniform(3, granularity="tensor", operand="weights")(x))
    assert make("stochastic_sign").eval()(x)[0].tolist() == [-1, -1, 1, 1, 1]


# --- wrong use, and what peers get wrong --------------------------------------------------------


def test_all_zero_weights_have_a_finite_gradient_everywhere() -> None:
    """bitorch's WeightDoReFa(zeros) is NaN; IR-Net divides by a zero standard deviation."""
    for name in quantizer_names():
        try:
            q = make(name)
        except ConfigurationError:
            continue
        w = torch.zeros(4, 3, requires_grad=True)
        q.initialize(w) if hasattr(q, "initialize") else None
        y = q(w)
        y.sum().backward()
        assert y.isfinite().all(), name
        assert w.grad is not None
        assert w.grad.abs().max() <= 10, name


def test_latent_weights_are_never_modified_by_a_forward_pass() -> None:
    """Brevitas clamps the latent parameter in place."""
    for name in quantizer_names():
        try:
            q = make(name)
        except ConfigurationError:
            continue
        w = torch.randn(4, 6)
        before = w.clone()
        q(w)
        assert torch.equal(w, before), name


@pytest.mark.parametrize("name", ["dorefa", "pact", "lsq", "lsq_plus", "uniform", "n2uq"])
@pytest.mark.parametrize("bits", [0, 9, 2.5, True])
def test_bits_out_of_range_say_what_to_do(name: str, bits: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"whole number from 1 to 8.*'sign'.*'ternary'"):
        build({"map": name, "bits": bits})


@pytest.mark.parametrize(
    ("spec", "operand", "message"),
    [
        ({"map": "power_of_two", "bits": 7}, "weights", "from 2 to 6"),
        ({"map": "power_of_two", "bits": 6, "signed": False}, "activations", "from 2 to 5"),
        ({"map": "token", "bits": 1}, "activations", "from 2 to 8"),
        ("pact", "weights", "meant for activations"),
        ("libra", "activations", "meant for weights"),
        ("unifrom", "weights", "Did you mean 'uniform'"),
        ("lsq(bits=4)", "weights", "as a mapping, {'map': 'lsq', ...}"),
        ({"name": "lsq", "bits": 4}, "weights", "'map' names the quantizer; without it"),
        ({"map": "uniform", "bit": 4}, "weights", "Did you mean 'bits'"),
        ({"map": "uniform", "rule": "relu"}, "activations", "every transition"),
        ({"map": "lsq", "rule": "magnitude_aware"}, "weights", "every transition"),
        ({"map": "uniform", "granularity": "chanel"}, "weights", "Did you mean 'channel'"),
        ({"map": "uniform", "granularity": "channel"}, "activations", "'token'"),
        ({"map": "uniform", "granularity": "group"}, "weights", "group_size"),
        ({"map": "uniform", "range": "max"}, "weights", "minmax"),
        ({"map": "uniform", "momentum": 0.0}, "activations", "momentum"),
        ({"map": "uniform", "bits": 1, "symmetric": True}, "activations", "'sign'"),
        ({"map": "stochastic_uniform", "bits": 1}, "weights", "'stochastic_sign'"),
        ({"map": "lsq", "granularity": "channel"}, "activations", "for weights"),
        ({"map": "lsq_plus", "bits": 1}, "weights", "'lsq'"),
        ({"map": "ternary", "threshold": -1.0}, "weights", "from 0 up"),
        ({"map": "twn", "granularity": "row"}, "weights", "Known: channel, group, tensor"),
        ({"map": "pact", "alpha": 0.0}, "activations", "positive"),
        ({"map": "progressive", "rho": 2.0}, "activations", "from 0 to 1"),
    ],
)
def test_wrong_specifications(spec: Any, operand: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(spec, operand)


def test_a_group_must_divide_the_fan_in() -> None:
    with pytest.raises(ConfigurationError, match="divide the 6 inputs"):
        make({"map": "uniform", "group_size": 4})(torch.randn(2, 6))


def test_pact_shrinks_its_clipping_value_only_through_clipped_inputs() -> None:
    q = PACT(4)
    q(torch.linspace(0, 9, 10)).sum().backward()
    assert q.alpha.grad == 0


def test_a_clipping_value_is_positive() -> None:
    with pytest.raises(ConfigurationError, match="alpha=0"):
        PACT(4, alpha=0)


@pytest.mark.parametrize("map_", ["lsq", "lsq_plus"])
def test_forgotten_steps_take_the_shape_of_the_next_weights(map_: str) -> None:
    """A quantizer that goes to a layer of fewer channels after ``reset_parameters``."""
    q = make({"map": map_, "bits": 4, "granularity": "channel"})
    q(torch.randn(8, 6))
    q.reset_parameters()
    few = torch.linspace(-1, 1, 24).view(4, 6)  # no value so far out that it is clipped
    torch.testing.assert_close(q(few), few, rtol=0, atol=0.5)
    assert {tuple(p.shape) for p in q.parameters()} == {(4, 1)}


@pytest.mark.parametrize("map_", ["apot", "power_of_two", "dorefa", "lsq", "uniform", "n2uq"])
def test_rules_of_one_operand_do_not_act_between_levels(map_: str) -> None:
    operand, rule = ("activations", "relu") if map_ == "n2uq" else ("weights", "magnitude_aware")
    with pytest.raises(ConfigurationError, match=rule):
        make({"map": map_, "bits": 4, "rule": rule}, operand)


@pytest.mark.parametrize("map_", ["lsq", "dorefa", "n2uq_weights", "uniform"])
def test_zero_counts_as_plus_one_on_two_levels(map_: str) -> None:
    q = make({"map": map_, "bits": 1})
    w = torch.tensor([[0.0, 0.5, -0.5, 0.25]])
    q(w)
    assert q(w).sign().tolist() == [[1, 1, -1, 1]]
    assert q.integer_levels(w)[0].sign().tolist() == [[1, 1, -1, 1]]


def test_groups_are_cut_from_the_inputs_of_each_output() -> None:
    w = torch.arange(24.0).view(4, 6)
    groups = split_groups(w, 3)
    assert groups.shape == (4, 2, 3)
    assert torch.equal(groups[1], w[1].view(2, 3))
    assert torch.equal(join_groups(groups, w, 3), w)
