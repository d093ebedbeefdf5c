"""Turn a float model into a quantized one in place, and back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from ste_lightning.convert.another_policy import check_reach, refuse_another_policy
from ste_lightning.convert.fast_path import close_fast_paths, reopen_fast_paths
from ste_lightning.convert.float_layers import float_layers
from ste_lightning.convert.lost_zeros import lost_zeros
from ste_lightning.convert.policy import Policy, Rule
from ste_lightning.convert.reach import Reach
from ste_lightning.convert.reading import read_structure
from ste_lightning.convert.relu import blind_to_nonnegative, replace_relu, restore_relus
from ste_lightning.convert.report import LayerReport, Report
from ste_lightning.convert.structure import Structure, float_class, quantizable_layers
from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.layers import QUANTIZED, QuantizedLayer, quantized_class
from ste_lightning.quantizers import summarize

__all__ = ["dequantize_", "quantize_"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def quantize_(
    model: nn.Module,
    policy: Policy | Mapping[str, Any] | Sequence[Any],
    sample: Any = None,
    *,
    reach_frozen: bool = False,
) -> Report:
    """Give the layers of ``model`` the quantizers of ``policy``, in place.

    A layer object stays the same object: its parameters become its latent weights under their
    old keys, and hooks, devices, training flags, parametrizations and tied weights stay. Layers
    that the policy has quantized already are left alone, so a second call changes nothing; so are
    layers that the model made itself. After an error the model is as it was. Subclasses of
    torch's layers that keep torch's forward, and transformers' Conv1D, are quantized as well.
    Quantizers of frozen layers are frozen too.

    ReLUs whose output reaches a ``sign`` input are replaced by the policy's choice, as
    sign(ReLU(x)) is the constant +1.

    Args:
        model: any module.
        policy: ordered rules ``{match, weight, input, relu, pad_value, score}``, see
            :class:`~ste_lightning.convert.Rule`; the last match wins. The first and the last
            quantizable layer stay float unless a rule gives their exact name, and see
            :class:`~ste_lightning.convert.Policy` for what else a wildcard does not reach.
        sample: an input of the model (a tensor, or a tuple or dict of arguments). With it the
            order of the layers and the ReLUs before them are read from one run; without it
            from a symbolic trace, which does not see through every ``forward``.
        reach_frozen: whether wildcards reach frozen layers although there are trained ones, as
            for a backbone that is frozen for a while only.

    Returns:
        What became what and why, and what stays float and why.

    Raises:
        ConfigurationError: for a wrong policy; a rule that matches no layer; layers that another
            policy has quantized; a policy that reaches no layer at all; a ReLU before a binary
            input that cannot be replaced.
    """
    policy = Policy.parse(policy)
    layers = quantizable_layers(model)
    staying = list(float_layers(model, layers))
    check_reach(policy, layers, staying)
    structure = read_structure(model, sample)
    order = structure.order + [name for name in layers if name not in structure.order]
    refuse_another_policy(policy, layers)
    reach = Reach(policy, {name: layers[name] for name in order}, reach_frozen)
    converted: list[nn.Module] = []
    rows, notes = [], []
    try:
        for name in order:
            row = _convert(name, layers[name], reach, converted)
            rows.append(row)
            if row.rule is not None:
                notes += _activations(model, name, layers[name], structure, row.rule)
        for name in close_fast_paths(model):
            notes.append(f"{name or 'model'}: torch's fused kernel, which reads float weights, off")
    except Exception:
        for layer in converted:
            _to_float(layer)
        restore_relus(model)
        reopen_fast_paths(model)
        raise
    for _, layer in named_quantized_layers(model):
        layer.freeze_with_weights()  # also those that were frozen since they were converted
    for finding in lost_zeros(model, set(converted)):
        notes.append(finding.message)
        warnings.warn(finding.message, stacklevel=2)
    report = Report((*rows, *staying), tuple(notes))
    require(
        bool(report.quantized),
        "policy",
        policy.plain(),
        "it quantizes no layer. Quantizable are: "
        + (", ".join(order) or "none (no Linear, convolution, Embedding or attention found)")
        + "; the first and the last need a rule with their exact name"
        + "".join(f"; {name}: {why}" for name, why in reach.apart.items()),
    )
    _remember(model)
    return report


def _remember(model: nn.Module) -> None:
    """Let models of the transformers library in ``model`` keep the policy in their configs."""
    inner: set[nn.Module] = set()  # parts of such a model share its config
    for module in model.modules():
        bases = ((cls.__module__, cls.__name__) for cls in type(module).__mro__)
        if module in inner or ("transformers.modeling_utils", "PreTrainedModel") not in bases:
            continue
        inner.update(module.modules())
        from ste_lightning.convert.pretrained import remember

        remember(module)


def dequantize_(model: nn.Module) -> list[str]:
    """Turn every quantized layer of ``model`` back into its float layer, in place.

    The latent weights, the same parameter objects, become ordinary weights again; replaced
    ReLUs return. Learned scales and thresholds are dropped.

    Returns:
        The names of the layers that became float.
    """
    names = []
    for name, layer in quantizable_layers(model).items():
        if isinstance(layer, QuantizedLayer):
            _to_float(layer)
            names.append(name)
    restore_relus(model)
    reopen_fast_paths(model)
    _remember(model)
    return names


def _convert(name: str, layer: nn.Module, reach: Reach, converted: list[nn.Module]) -> LayerReport:
    """Convert one layer if its rule says so, and say what was done."""
    cls = float_class(layer)
    assert cls is not None
    kind = cls.__name__
    if isinstance(layer, QuantizedLayer):
        made = "made by the model itself" if layer.converted is None else "quantized already"
        return _row(name, kind, layer, made)
    rule, reason = reach.rule_for(name, cls)
    if rule is None:
        return LayerReport(name, kind, "float", "float", reason)
    exact = rule.names_exactly(name)
    match = rule.match if isinstance(rule.match, str) else rule.match.__name__
    options = {"weight_quantizer": rule.weight, "input_quantizer": rule.input}
    if issubclass(cls, nn.Embedding):
        del options["input_quantizer"]
    if all(spec is None for spec in options.values()):
        return LayerReport(name, kind, "float", "float", f"rule {match!r} leaves it float")
    try:
        _to_quantized(layer, cls, {k: copy.deepcopy(v) for k, v in options.items()}, rule)
    except ConfigurationError as error:
        if exact:
            raise ConfigurationError(f"layer {name!r}: {error}") from error
        return LayerReport(name, kind, "float", "float", f"rule {match!r} cannot: {error}")
    converted.append(layer)
    return _row(name, kind, layer, f"rule {match!r}", {**rule.plain(), "match": name})


def _row(
    name: str, kind: str, layer: nn.Module, reason: str, rule: dict[str, Any] | None = None
) -> LayerReport:
    weight = summarize(getattr(layer, "weight_quantizer", None))
    inputs = summarize(getattr(layer, "input_quantizer", None))
    if not any(parameter.requires_grad for parameter in layer.parameters()):
        reason += ", frozen"
    return LayerReport(name, kind, weight, inputs, reason, rule)


def _to_quantized(
    layer: nn.Module, cls: type[nn.Module], options: dict[str, Any], rule: Rule
) -> None:
    """Change the layer's class; on an error the layer is as before."""
    quantized = quantized_class(cls)
    assert quantized is not None
    before = type(layer)
    if parametrize.is_parametrized(layer):
        quantized = _parametrized(before, quantized)
    if issubclass(cls, _CONVOLUTIONS) and getattr(layer, "padding_mode", "") == "zeros":
        options["pad_value"] = rule.pad_value
    if issubclass(cls, nn.MultiheadAttention):
        options["score_quantizer"] = rule.score
    try:
        quantized.from_float(layer, **options)
    except Exception:
        layer.__class__ = before
        raise
    assert isinstance(layer, QuantizedLayer)
    layer.converted = {"relu": rule.relu} if rule.relu != "hardtanh" else {}
    weight = next(layer.parameters())
    for child in layer.modules():
        for quantizer in (
            getattr(child, "weight_quantizer", None),
            getattr(child, "input_quantizer", None),
            getattr(child, "score_quantizer", None),
        ):
            if isinstance(quantizer, nn.Module):
                quantizer.to(device=weight.device, dtype=weight.dtype).train(layer.training)


def _parametrized(before: type[nn.Module], quantized: type[QuantizedLayer]) -> type[QuantizedLayer]:
    """Return ``quantized`` with the properties that torch gave the parametrized class."""
    own = {k: v for k, v in vars(before).items() if k not in ("__dict__", "__weakref__")}
    return type(before.__name__, (quantized,), {**own, "float_class": before})


def _to_float(layer: nn.Module) -> None:
    assert isinstance(layer, QuantizedLayer)
    if layer.float_class.__name__.startswith("Parametrized") and not parametrize.is_parametrized(
        layer
    ):  # the parametrization was removed while the layer was quantized
        for parent in type(layer).__mro__:
            if parent in QUANTIZED.values():
                layer.__class__ = parent
                break
    layer.to_float()


def _activations(
    model: nn.Module,
    name: str,
    layer: nn.Module,
    structure: Structure,
    rule: Mapping[str, Any],
) -> list[str]:
    """Replace the ReLUs that would make the layer's binary input a constant."""
    quantizer = getattr(layer, "input_quantizer", None)
    if not isinstance(quantizer, nn.Module) or not blind_to_nonnegative(quantizer):
        return []
    choice = str(rule.get("relu", "hardtanh"))
    sources = sorted(structure.feeds.get(name, ()), key=lambda s: s.owner)
    notes = [replace_relu(model, source, choice, name, quantizer) for source in sources]
    return [note for note in notes if note]
