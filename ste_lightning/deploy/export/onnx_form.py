"""Packed layers as one node each while torch exports what is around them; then their own nodes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ste_lightning.deploy.export.symbolic import symbolic
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.deploy.layers.packed_layer import packed_layers

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxForm", "described"]

_DOMAIN = "ste_lightning"


class _Placeholder(nn.Module):
    """A packed layer as one node.

    Args:
        layer: the layer.
        index: its number among them.
    """

    def __init__(self, layer: Opaque, index: int) -> None:
        super().__init__()
        self.index, self._result_like = index, layer.result_like

    def forward(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the node's result."""
        like = self._result_like(x, growth)
        options: dict[str, Any] = {"growth": [int(g) for g in growth]} if growth else {}
        options |= {"index": self.index, "rank": x.dim()}
        return symbolic(f"{_DOMAIN}::Layer", (x,), like.dtype, like.shape, **options)


class OnnxForm:
    """What takes the place of packed layers, and later of the nodes that stand for them."""

    def __init__(self) -> None:
        self._layers: list[tuple[Opaque, float | None]] = []

    def __call__(self, layer: nn.Module, bound: float | None) -> nn.Module:
        """Return what a layer is while torch exports."""
        if not isinstance(layer, Opaque):
            return copy.deepcopy(layer)
        self._layers.append((layer, bound))
        return _Placeholder(layer, len(self._layers) - 1)

    def finished(self, model: onnx.ModelProto, onnxruntime: bool) -> onnx.ModelProto:
        """Return a model with the layers' own nodes.

        Args:
            model: from torch's exporter.
            onnxruntime: whether they may be onnxruntime's own operators.
        """
        from onnx import helper

        from ste_lightning.deploy.export.onnx_layers import write_layer
        from ste_lightning.deploy.export.onnx_layout import channels_last, inputs_of, used
        from ste_lightning.deploy.export.onnx_nodes import Nodes
        from ste_lightning.deploy.export.onnx_runs import Runs

        nodes = Nodes(model.graph.initializer, onnxruntime)
        calls = {
            n.output[0]: {a.name: a for a in n.attribute}
            for n in model.graph.node
            if n.domain == _DOMAIN
        }
        parts = {y: self._layers[call["index"].i][0] for y, call in calls.items()}
        runs = Runs(model.graph, parts, onnxruntime)
        ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in model.graph.value_info}
        for node in model.graph.node:
            x, y = (part[0] if part else "" for part in (node.input, node.output))
            if node.domain == _DOMAIN:
                given = calls[y]
                layer, bound = self._layers[given["index"].i]
                rank = given["rank"].i
                growth = list(given["growth"].ints) if "growth" in given else []
                if not runs.write(nodes, layer, bound, x, rank, y):
                    write_layer(nodes, layer, bound, x, rank, growth, y, x in runs.bytes)
            elif y in runs.clips:
                nodes.add("Identity", [x], y)
            elif not channels_last(nodes, node, ranks):
                for part in ("name", "doc_string", "metadata_props"):  # paths of this machine
                    node.ClearField(part)
                nodes.nodes.append(node)
        kept = used(nodes.nodes, {value.name for value in model.graph.output})
        names = {name for node in kept for name in inputs_of(node)}
        tensors = [tensor for name, tensor in nodes.tensors.items() if name in names]
        ends = (list(model.graph.input), list(model.graph.output))
        graph = helper.make_graph(kept, "network", *ends, tensors)
        opsets = [o for o in model.opset_import if o.domain not in (_DOMAIN, *nodes.domains)]
        for known in opsets:
            if known.domain in ("", "ai.onnx"):
                known.version = max(known.version, nodes.opset)
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(nodes.domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=nodes.ir)


def described(model: onnx.ModelProto, network: PackedNetwork) -> onnx.ModelProto:
    """Return a model with class names, preprocessing and bits as metadata, and no more."""
    from onnx import helper

    parts = packed_layers(network.module).items()
    codes = {name: (part.weight_codes, part.input.codes) for name, part in parts}
    bits = {name: f"{w.bits}x{x.bits if x else 'float'}" for name, (w, x) in codes.items()}
    told = {**network.info, "bits": bits}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in told.items()})
    model.producer_name = "ste_lightning"
    model.graph.ClearField("metadata_props")
    for node in model.graph.node:
        node.ClearField("metadata_props")
    return model
