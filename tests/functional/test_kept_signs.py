"""Signs of weights that wait for the backward pass in lent memory are never anybody else's."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ste_lightning import functional as SF
from ste_lightning.functional.products import binary, popcount_forward, small_linear
from ste_lightning.functional.products.binary import one_bit_product
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.functional.saved import bit_masks

SPEC = OneBitProduct("sign", SF.surrogate("clipped"), SF.surrogate("clipped"))
SHAPE = (24, 40)


@pytest.fixture(autouse=True)
def _torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiled code, and no layer is small."""
    monkeypatch.setattr(bit_masks, "compiled_code", lambda _: None)
    monkeypatch.setattr(popcount_forward, "counting_pays", lambda *_: False)
    monkeypatch.setattr(small_linear, "SMALL_INPUT", -1)
    monkeypatch.setattr(binary, "_LENT", 0)


class Case:
    """A product, and the gradients that the plain composition has."""

    def __init__(self, weight: torch.nn.Parameter | None = None) -> None:
        self.weight = torch.nn.Parameter(torch.randn(SHAPE)) if weight is None else weight
        self.x = torch.randn(7, SHAPE[1], requires_grad=True)
        self.grad = torch.randn(7, SHAPE[0])
        plain = SF.sign(self.x) @ SF.sign(self.weight).t()
        self.expected = torch.autograd.grad(plain, (self.x, self.weight), self.grad)
        self.y = one_bit_product(self.x, self.weight, None, None, SPEC)

    def gradients(self, keep: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.y, (self.x, self.weight), self.grad, retain_graph=keep)

    def check(self, keep: bool = False) -> None:
        for found, expected in zip(self.gradients(keep), self.expected, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_layers_of_one_shape_in_any_order(order: tuple[int, ...]) -> None:
    cases = [Case(), Case(), Case()]
    for i in order:
        cases[i].check()


def test_one_layer_called_twice() -> None:
    first = Case()
    second = Case(first.weight)
    first.check()
    second.check()


def test_forward_passes_in_between() -> None:
    case = Case()
    with torch.no_grad():
        one_bit_product(torch.randn(3, SHAPE[1]), torch.randn(SHAPE), None, None, SPEC)
    Case()  # whose graph nobody walks
    case.check()


def test_weights_edited_in_between_are_those_of_the_forward_pass() -> None:
    """As in the plain composition, which keeps the quantized weights."""
    case = Case()
    case.weight.data.neg_()
    assert torch.equal(case.gradients()[0], case.expected[0])


def test_another_forward_pass_sees_edited_weights() -> None:
    case = Case()
    case.check()
    case.weight.data.neg_()
    Case(case.weight).check()


def test_the_same_graph_twice() -> None:
    case = Case()
    case.check(keep=True)
    others = [Case(), Case()]  # have the memory that was given back
    case.check()
    for other in others:
        other.check()


def test_gradients_are_not_in_lent_memory() -> None:
    case = Case()
    found = case.gradients()
    for _ in range(3):
        Case().check()
    for mine, expected in zip(found, case.expected, strict=True):
        assert torch.equal(mine, expected)


def test_a_backward_pass_inside_another() -> None:
    calls = itertools.count()

    def unpack(x: Tensor) -> Tensor:
        if next(calls) == 0:
            with torch.enable_grad():
                Case().check()
        return x

    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
        case = Case()
    calls = itertools.count()
    case.check()
    assert next(calls) > 1


def test_checkpoints() -> None:
    case = Case()
    y = checkpoint(one_bit_product, case.x, case.weight, None, None, SPEC, use_reentrant=False)
    found = torch.autograd.grad(y, (case.x, case.weight), case.grad)
    for mine, expected in zip(found, case.expected, strict=True):
        assert torch.equal(mine, expected)
    case.check()


def test_backward_passes_in_other_threads() -> None:
    cases = [Case() for _ in range(20)]
    barrier = threading.Barrier(2)

    def walk() -> None:
        barrier.wait()
        for case in cases:  # both threads walk every graph
            case.check(keep=True)
            Case().check()

    with ThreadPoolExecutor(2) as pool:
        walks = [pool.submit(walk) for _ in range(2)]
        for _ in range(40):  # meanwhile their memory is lent again here
            Case().check()
        for work in walks:
            work.result()
