"""From a network's steps to the operations of a C program."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ste_lightning.deploy.export.c.encode import add_encoder
from ste_lightning.deploy.export.c.float_call import floats_of
from ste_lightning.deploy.export.c.floats import add_function
from ste_lightning.deploy.export.c.frozen import Frozen
from ste_lightning.deploy.export.c.layer_call import LayerCall
from ste_lightning.deploy.export.c.packed import add_integers, reads_bits
from ste_lightning.deploy.export.c.packed_floats import add_mixed, add_tokens
from ste_lightning.deploy.export.c.pools import add_code_pool
from ste_lightning.deploy.export.c.program import Program, Stored, refused
from ste_lightning.deploy.export.c.shapes import shape_of
from ste_lightning.deploy.export.c.supported import require_layer
from ste_lightning.deploy.fusion.consumers import Readers, readers_of
from ste_lightning.deploy.fusion.requantize import gives_whole_sums
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.input_quantizers import (
    BinaryInput,
    FloatInput,
    LevelsInput,
    TokenInput,
)
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["lowered"]


def lowered(frozen: Frozen) -> Program:
    """Return the program of a network.

    Raises:
        ConfigurationError: for what has no C, by name.
    """
    flow, program = frozen.flow, Program()
    program.stored[frozen.input] = floats_of(frozen.sample.shape)
    for step in frozen.steps:
        if step.op == "layer":
            require_layer(step.target, flow.layers[step.target])
    between: dict[str, tuple[nn.Module, Readers]] = {}
    encoded: dict[Any, str] = {}
    for step in frozen.steps:
        if step.result in between:
            _move(program, step, *between[step.result], flow)
        elif step.op == "layer":
            readers = readers_of(step, flow, _sums_codes, gives_whole_sums)
            if readers is not None:
                between |= {part.result: (module, readers) for part, module in readers.between}
            _layer(program, step, flow, readers, encoded)
        else:
            add_function(program, step, flow)
    if program.stored[frozen.output].kind != "floats":
        raise refused("output that is no float")
    return program


def _sums_codes(layer: nn.Module) -> bool:
    """Return whether a layer may be given its input's codes."""
    return (
        isinstance(layer, (PackedConv, PackedLinear))
        and isinstance(layer.input, (BinaryInput, LevelsInput))
        and layer.sums_integers
    )


def _layer(
    program: Program, step: Step, flow: Flow, readers: Readers | None, encoded: dict[Any, str]
) -> None:
    layer: Any = flow.layers[step.target]
    source = step.args[0].name
    if len(step.args) > 1:
        raise refused(f"growing result of layer {step.target!r}")
    x = program.stored[program.root(source)]
    if x.kind == "floats":
        x = _viewed(layer, flow.values[source], step.target)
        if _sums_codes(layer):
            form = "bits" if reads_bits(layer) else "codes"
            source = _encoded(program, layer, source, x, form, encoded)
            x = program.stored[source]
    name = program.unique(step.target or "layer")
    window = shape_of(layer, x)
    call = LayerCall(program, layer, source, step.result, step.target, name, window)
    if isinstance(layer.input, FloatInput):
        add_mixed(call)
    elif isinstance(layer.input, TokenInput):
        add_tokens(call)
    else:
        known = [] if readers is None else [_read(flow, reader) for reader in readers.layers]
        form = "bits" if all(map(reads_bits, known)) else "codes"
        add_integers(call, x, None if readers is None else readers.emission, form)


def _read(flow: Flow, step: Step) -> PackedLayer:
    layer = flow.layers[step.target]
    assert isinstance(layer, PackedLayer)
    return layer


def _viewed(layer: PackedLayer, value: Tensor, name: str) -> Stored:
    """Return how a layer sees floats: as an image, or as rows."""
    if isinstance(layer, PackedConv):
        dims = len(layer.geometry.kernel)
        if value.dim() != dims + 2:
            raise refused(f"convolution of {value.dim()} axes (layer {name!r})")
        height, width = value.shape[-2:] if dims == 2 else (1, value.shape[-1])
        return Stored("floats", height, width, value.shape[1])
    return Stored("floats", 1, value.numel() // value.shape[-1], value.shape[-1])


def _encoded(
    program: Program, layer: PackedLayer, source: str, x: Stored, form: str, encoded: dict[Any, str]
) -> str:
    """Return the codes of floats, made at most once."""
    rows, quantizer = isinstance(layer, PackedLinear), layer.input
    tensors = tuple(t.numpy().tobytes() for t in quantizer.buffers())
    key = (program.root(source), form, x, rows, str(quantizer.spec() | {"scale": 1}), tensors)
    if key not in encoded:
        encoded[key] = f"{source} as {form} {len(encoded)}"
        add_encoder(program, quantizer, source, x, rows, form, encoded[key])
    return encoded[key]


def _move(program: Program, step: Step, module: nn.Module, readers: Readers, flow: Flow) -> None:
    """Add a pooling or flattening of codes."""
    source = program.root(step.args[0].name)
    if isinstance(module, nn.Flatten):
        program.alias(step.result, source, program.stored[source])
        return
    size = flow.values[step.result].shape[2:]
    add_code_pool(program, module, readers.emission.flips, source, step.result, size)
