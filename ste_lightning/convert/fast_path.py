"""torch's fused transformer kernels read float weights past any layer's forward: close them."""

from __future__ import annotations

from torch import nn

from ste_lightning.layers import QuantizedLayer

__all__ = ["close_fast_paths", "reopen_fast_paths"]

_FLAGS = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu"),
    (nn.TransformerEncoder, "use_nested_tensor"),
)
_SAVED = "_ste_lightning_fast_path"


def close_fast_paths(model: nn.Module) -> list[str]:
    """Make transformer encoders with quantized layers use their layers' ``forward`` in eval mode.

    In eval mode without gradients ``nn.TransformerEncoderLayer`` calls one fused kernel on its
    layers' latent weights; a quantized model would silently be evaluated in float.

    Returns:
        The names of the modules changed.
    """
    closed = []
    for name, module in model.named_modules():
        for cls, flag in _FLAGS:
            if not isinstance(module, cls) or _SAVED in vars(module):
                continue
            if any(isinstance(child, QuantizedLayer) for child in module.modules()):
                vars(module)[_SAVED] = getattr(module, flag)
                setattr(module, flag, False)
                closed.append(name)
    return closed


def reopen_fast_paths(model: nn.Module) -> None:
    """Undo :func:`close_fast_paths`."""
    for module in model.modules():
        for cls, flag in _FLAGS:
            if isinstance(module, cls) and _SAVED in vars(module):
                setattr(module, flag, vars(module).pop(_SAVED))
