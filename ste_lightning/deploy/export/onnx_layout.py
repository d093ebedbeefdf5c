"""Nodes between layers that compute with the channels last, where layers leave them so.

Integer products have their channels last. Were every result of theirs transposed, so would be all
that runs along shortcuts; onnxruntime undoes that only where nothing else wants channels first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import numpy_helper

from ste_lightning.deploy.export.onnx_nodes import Nodes

__all__ = ["channels_first", "channels_last", "inputs_of", "used"]

_ELEMENTWISE = {"Relu", "Clip", "Add"}


def channels_first(nodes: Nodes, last: str, rank: int, y: str = "") -> str:
    """Transpose a result whose channels are last to one, ``y``, where they are the second axis."""
    y = nodes.add("Transpose", [last], y, perm=[0, rank - 1, *range(1, rank - 1)])
    nodes.last[y] = last
    return y


def channels_last(nodes: Nodes, node: onnx.NodeProto, ranks: Mapping[str, int]) -> bool:
    """Add a node in the form for channels last, if its inputs have them there; return whether.

    Args:
        nodes: where it goes.
        node: as torch exported it.
        ranks: of the graph's results.
    """
    kind, y = node.op_type, node.output[0]
    given = [name for name in node.input if name and name not in nodes.tensors]
    rank = ranks.get(y, 0)
    if rank < 3 or not any(name in nodes.last for name in given):
        return False
    if kind == "ReduceMean" and len(node.input) == 2 and node.input[1] in nodes.tensors:
        axes = numpy_helper.to_array(nodes.tensors[node.input[1]]) % rank
        if sorted(axes.tolist()) != list(range(2, rank)):
            return False
        others = [nodes.numbers(range(1, rank - 1))]
    elif kind in _ELEMENTWISE and all(ranks.get(name) == rank for name in given):
        others = list(node.input[len(given) :])
        if kind == "Add" and others:
            return False
    else:
        return False
    perm = [0, *range(2, rank), 1]
    there = [nodes.last.get(name) or nodes.add("Transpose", [name], perm=perm) for name in given]
    channels_first(nodes, nodes.add(kind, [*there, *others]), rank, y)
    return True


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads, those in the bodies of loops and branches too."""
    bodies = [
        part
        for a in node.attribute
        for part in (*a.graphs, *([a.g] if a.type == onnx.AttributeProto.GRAPH else []))
    ]
    return [*node.input, *(name for body in bodies for n in body.node for name in inputs_of(n))]


def used(nodes: Sequence[onnx.NodeProto], results: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes, in order, on which results depend."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(inputs_of(node))
    return kept[::-1]
