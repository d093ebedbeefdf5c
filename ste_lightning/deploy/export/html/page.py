"""The page as one file: kernel, drawing, and the packed network."""

from __future__ import annotations

import base64
import functools
import re
import tempfile
from pathlib import Path

from ste_lightning.deploy.file.save import save
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.template import filled, packaged

__all__ = ["page", "runs", "write_html"]

_PACKAGE = __name__.rpartition(".")[0]
_CHECKED = ("refusal", "sha256", "numbers", "tensor_file", "bundle", "packed_file")
_COMPUTED = ("window", "float_products", "level_products", "bit_products", "quantizers")
_LAYERS = ("layer_checks", "packed_layers", "elementwise", "float_layers", "operators", "network")
_KERNEL = (*_CHECKED, *_COMPUTED, *_LAYERS, "resize", "preprocessing", "opened")
_NAMED = re.compile(r'^  "([\w.]+)": ', re.MULTILINE)  # a row of a table in JavaScript


def page(model: bytes = b"") -> str:
    """Return the page as HTML that needs nothing beside it.

    Args:
        model: a packed file, which runs as soon as the page is open; without one the page waits
            for a file.
    """

    def scripts(*names: str) -> str:
        return "\n".join(packaged(_PACKAGE, f"{name}.js") for name in names)

    pieces = {
        "STYLE": packaged(_PACKAGE, "page.css"),
        "MODEL": base64.b64encode(model).decode(),
        "KERNEL": scripts(*_KERNEL),
        "SCRIPT": scripts("drawing", "page"),
    }
    return filled(packaged(_PACKAGE, "page.html"), pieces)


@functools.cache
def runs() -> frozenset[str]:
    """Return the operators and layers of the JavaScript's tables."""
    texts = (
        packaged(_PACKAGE, f"{name}.js") for name in ("elementwise", "operators", "packed_layers")
    )
    return frozenset(name for text in texts for name in _NAMED.findall(text))


def write_html(network: PackedNetwork, path: Path) -> None:
    """Write a page with a captured network inside.

    Raises:
        ConfigurationError: for an operator or a layer that the page does not run, by name, before
            anything is written.
    """
    assert network.graph is not None
    layers = network.layers()
    for step in network.graph.steps:
        name = type(layers[step.target]).__name__ if step.op == "layer" else step.target
        if name not in runs():
            raise ConfigurationError(f"format='html' has no {name} (step {step.result!r}).")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "net.safetensors"
        save(network, packed)
        path.write_text(page(packed.read_bytes()), encoding="utf-8")
