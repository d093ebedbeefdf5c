"""The packed copy of a model: of its own class, with packed layers for quantized ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ste_lightning.deploy.graph.trees import float_type
from ste_lightning.deploy.lower.float_weights import store_floats
from ste_lightning.deploy.lower.layer import packed_layer
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer

__all__ = ["packed_copy"]

_FAST_PATHS = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
    (nn.TransformerEncoder, "enable_nested_tensor", False),
)
_ATTRIBUTES = (
    *("in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride"),
    *("padding", "dilation", "num_embeddings", "embedding_dim", "padding_idx", "embed_dim"),
)


@torch.no_grad()
def packed_copy(model: nn.Module, floats: str) -> nn.Module:
    """Return an evaluation-only copy on the CPU whose quantized layers are packed.

    It is in float32, unless the model's floats are of several types.

    Shared modules stay shared; parametrizations, weight and spectral norm and pruning masks become
    plain weights; compiled inner modules the modules that were compiled; hooks are kept.

    Args:
        model: stays as it is.
        floats: how float layers keep their weights.

    Raises:
        ConfigurationError: for a quantized layer without a packed form, with its name and the
            reason, a model without quantized layers, or one that cannot be copied.
    """
    memo: dict[int, Any] = {}
    quantized = 0
    done: list[nn.Module] = []
    for name, module in model.named_modules():
        for other in (vars(module).get("_trainer"), vars(module).get("_fabric")):
            memo[id(other)] = None
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
        if not isinstance(module, QuantizedLayer) or any(module is part for part in done):
            continue
        done += module.modules()
        if module.weight_quantizer is None and module.input_quantizer is None:
            memo[id(module)] = _plain(copy.deepcopy(module).to_float())
            continue
        quantized += 1
        for hook in filter(_is_norm, module._forward_pre_hooks.values()):
            hook(module, None)  # the weights as of now
        memo[id(module)] = _hooked(packed_layer(module, name or "the model"), module)
    if not quantized:
        raise ConfigurationError(
            f"{type(model).__name__} has no quantized layer: nothing can be packed."
        )
    for module in reversed(list(model.modules())):
        inner = dict(module.named_children()).get("_orig_mod")
        if inner is not None:
            memo[id(module)] = copy.deepcopy(inner, memo)
    try:
        copied: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:  # whatever a user's attributes raise
        raise ConfigurationError(f"{type(model).__name__} cannot be copied: {error}") from error
    return _stored(_plain(copied), floats)


def _hooked(packed: nn.Module, layer: nn.Module) -> nn.Module:
    """Return a packed layer; inside a module with the hooks where the trained one has any."""
    for name in _ATTRIBUTES:
        if hasattr(layer, name) and not hasattr(packed, name):
            setattr(packed, name, getattr(layer, name))
    pruned = [key for key, hook in layer._forward_pre_hooks.items() if _is_norm(hook)]
    if not layer._forward_hooks and len(layer._forward_pre_hooks) == len(pruned):
        return packed
    outer = nn.Sequential(packed)
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs",
                 "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called"):  # fmt: skip
        setattr(outer, kind, copy.copy(getattr(layer, kind)))
    for key in pruned:
        del outer._forward_pre_hooks[key]
    return outer.eval()


def _plain(copied: nn.Module) -> nn.Module:
    """Return a module in eval mode, in float32, on the CPU, with plain weights."""
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            _unparametrized(module)
        for key, hook in list(module._forward_pre_hooks.items()):
            if _is_norm(hook):
                hook(module, None)
                del module._forward_pre_hooks[key]
                _as_parameter(module, hook)
        for cls, flag, closed in _FAST_PATHS:
            if isinstance(module, cls) and hasattr(module, flag):
                setattr(module, flag, closed)
    copied = copied.cpu().eval()
    if float_type(copied.parameters()) is not None:  # where types are mixed, that is meant
        copied.float()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _unparametrized(module: nn.Module) -> None:
    """Make computed weights plain; torch's own way would change the class, which is the model's."""
    parts = module._modules["parametrizations"]
    assert parts is not None
    values = {name: getattr(module, name).detach().clone() for name in parts._modules}
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _is_norm(hook: Any) -> bool:
    """Return whether a hook is that of weight norm, spectral norm or pruning."""
    named = hasattr(hook, "name") or hasattr(hook, "_tensor_name")
    return type(hook).__module__.startswith("torch.nn.utils.") and named


def _as_parameter(module: nn.Module, hook: Any) -> None:
    """Let a weight that a hook computed be a parameter."""
    name = str(getattr(hook, "name", None) or hook._tensor_name)
    value = getattr(module, name).detach().clone()
    for key in [
        key for key in (*module._parameters, *module._buffers) if key.startswith(name + "_")
    ]:
        module._parameters.pop(key, None)
        module._buffers.pop(key, None)
    vars(module).pop(name, None)
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _stored(copied: nn.Module, floats: str) -> nn.Module:
    """Return a module whose float layers keep their weights in fewer bits."""
    if floats == "float32":
        return copied
    for parent in list(copied.modules()):
        if isinstance(parent, nn.MultiheadAttention):
            continue  # it reads its output projection's weights itself
        for name, child in list(parent.named_children()):
            setattr(parent, name, store_floats(child, floats))
    return store_floats(copied, floats)
