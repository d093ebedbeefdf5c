"""From a trained model to a packed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ste_lightning.convert.unchanged import unchanged
from ste_lightning.deploy.compare import require_equal
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.lower.float_weights import PRECISIONS
from ste_lightning.deploy.lower.module import packed_copy
from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["pack"]


def pack(
    model: nn.Module,
    sample: Any = None,
    *,
    floats: str = "float32",
    fold: bool = True,
    info: Mapping[str, Any] | None = None,
) -> PackedNetwork:
    """Return an evaluation-only copy of a trained model whose quantized weights are packed.

    Integer parts compute the integers that the model computes; what lies between them, such as
    batch norms, becomes thresholds on these integers. What stays in float is computed by the same
    torch operators, in float32. The model itself is not changed.

    With a sample, the call is captured at once, and the packed copy is compared with the model on
    it, layer by layer, whether it could be captured or not; without one, it is captured at the
    first call.

    Args:
        model: any module with quantized layers, such as a LightningModule after training.
        sample: what the model is called with: a tensor, a tuple of positional arguments, or a
            dict of keywords; default the model's ``example_input_array``, if it has one.
        floats: how float layers keep their weights: ``"float32"``, ``"float16"`` (rounded once,
            computed in float32), or ``"int8"`` (linear layers and convolutions, one scale per
            output).
        fold: whether what lies between packed layers becomes thresholds.
        info: plain data to keep with the network: ``classes`` (names), ``preprocessing``,
            ``input_shape``.

    Returns:
        The packed network; its ``module`` is the packed copy with the model's own class and
        methods. Where the model cannot be captured there is a warning that says which line and
        why: then it runs in this process, but cannot be saved.

    Raises:
        ConfigurationError: for a quantized layer without a packed form, with its name and the
            reason, a model without quantized layers, a sample on which the model fails, or a
            packed layer whose results on the sample are not the trained one's.
    """
    if floats not in PRECISIONS:
        raise unknown("floats", floats, PRECISIONS)
    network = PackedNetwork(packed_copy(model, floats), info=info, fold=fold)
    if sample is None:
        sample = getattr(model, "example_input_array", None)
    if sample is not None:
        args, kwargs = arguments(sample)
        try:
            with unchanged(network.module, PackedLayer):
                network(*args, **kwargs)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"sample cannot be used: the packed {type(model).__name__} fails on it: "
                f"{type(error).__name__}: {error}. Give what the model is called with: a tensor, "
                "a tuple of arguments, or a dict of keywords."
            ) from error
        require_equal(model, network, args, kwargs, rounded=floats != "float32")
    return network
