"""What a packed file's steps make on their way is counted before anything is computed."""

import pytest
import torch

from ste_lightning.deploy.graph.check import checked
from ste_lightning.deploy.graph.steps import Graph, GraphInput, Ref, Step
from ste_lightning.errors import ConfigurationError

SOME = 1 << 13  # of it, two to the power of 26 is the square


def graph(name, args, *shapes, dtype="float32"):
    """Return the graph of one operator; strings in its arguments are inputs."""
    dtype = getattr(torch, dtype)
    inputs = tuple(GraphInput(n, dtype, s, s) for n, s in zip("abc", shapes, strict=False))
    given = tuple(Ref(a) if isinstance(a, str) and a in "abc" else a for a in args)
    arguments = {i.name: Ref(i.name) for i in inputs}
    return Graph(arguments, inputs, (Step("made", "function", name, given, {}),), Ref("made"))


# operator, arguments, shapes, type: inputs and results are small, what is made between them is not
LARGE = {
    "a transform pads": ("fft_rfft", ["a", 1 << 20, 0], [(2, 64)], "float32"),
    "frames overlap": ("stft", ["a", 1 << 14, 1, 1 << 14, None, False, True, True], [(1 << 15,)]),
    "frames of a return": ("fft_irfft", ["a", SOME, 0], [(2, SOME)], "complex64"),
    "points times points": ("pairwise_distance", ["a", "b"], [(SOME, 1, 2), (SOME, 2)]),
    "lists of points": ("cdist", ["a", "b"], [(2048, 1, 4, 8), (1, 2048, 1, 8)]),
    "patches": (
        "conv2d",
        ["a", "b", None, [1, 1], [64, 64]],
        [(1, 4, 64, 64), (1, 4, 65, 65)],
        "float64",
    ),
    "patches of a transpose": (
        "conv_transpose2d.input",
        ["a", "b", None, [1, 1], [60, 60]],
        [(1, 1, 128, 128), (1, 1, 120, 120)],
    ),
    "scores of uneven heads": (
        "scaled_dot_product_attention",
        ["a", "b", "c"],
        [(2, 2, SOME, 2), (2, 2, SOME, 2), (2, 2, SOME, 4)],
    ),
    "one axis first": (
        "_upsample_bilinear2d_aa.vec",
        ["a", [1, SOME], False, None],
        [(1, 1, SOME * 2, 1)],
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_what_is_large_on_the_way_is_refused(case):
    name, args, shapes, *dtype = LARGE[case]
    with pytest.raises(ConfigurationError, match=f"not plausible .up to 'made', {name}"):
        checked(graph(name, args, *shapes, dtype=(dtype or ["float32"])[0]), {}, {})


SMALL = {
    "attention in rows": (
        "scaled_dot_product_attention",
        ["a", "b", "c"],
        [(2, 2, SOME, 2)] * 3,
    ),
    "convolution by oneDNN": (
        "conv2d",
        ["a", "b", None, [1, 1], [64, 64]],
        [(1, 4, 64, 64), (1, 4, 65, 65)],
    ),
    "views": ("unfold", ["a", 0, SOME, 1], [(2 * SOME - 1,)]),
}


@pytest.mark.parametrize("case", SMALL)
def test_what_torch_does_without_is_not_counted(case):
    name, args, shapes = SMALL[case]
    assert checked(graph(name, args, *shapes), {}, {})["made"].numel() <= SOME * SOME


def test_gates_of_all_times_are_counted():
    times, cell = SOME, SOME // 2  # of which a projection leaves one
    shapes = {"x": (times, 1, 1), "h": (1, 1, 1), "c": (1, 1, cell)}
    shapes |= {"in": (4 * cell, 1), "past": (4 * cell, 1), "out": (1, cell)}
    inputs = tuple(GraphInput(n, torch.float32, s, s) for n, s in shapes.items())
    x, h, c, *weights = (Ref(name) for name in shapes)
    args = (x, [h, c], weights, False, 1, 0.0, False, False, False)
    step = Step("made", "function", "lstm.input", args, {})
    whole = Graph({name: Ref(name) for name in shapes}, inputs, (step,), Ref("made"))
    with pytest.raises(ConfigurationError, match=r"not plausible .up to 'made', lstm"):
        checked(whole, {}, {})
