"""Values of any shape as trees, and back."""

import collections
import dataclasses

import pytest
import torch

from ste_lightning.deploy.graph.steps import Ref
from ste_lightning.deploy.graph.trees import assembled, dissected, mapped, matched, tensors_in
from ste_lightning.errors import ConfigurationError

Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    hidden: list


class Cache(dict):
    pass


def tree_of(value, classes=None):
    leaves = []

    def leaf(tensor):
        leaves.append(tensor)
        return Ref(str(len(leaves) - 1))

    return dissected(value, leaf, classes), leaves


X, Y = torch.arange(3.0), torch.ones(2)
VALUES = {
    "tensor": X,
    "list": [X, (Y, 1, None)],
    "dict": {"x": X, "deep": {"y": Y, "name": "n"}},
    "named tuple": Pair(X, [Y]),
    "dataclass": Answer(X, [Y, 2.5]),
    "own dict": Cache(x=X, y=Y),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_put_together_as_it_was(name):
    value = VALUES[name]
    classes = {}
    tree, leaves = tree_of(value, classes)
    back = assembled(tree, lambda ref: leaves[int(ref.name)], classes)
    assert type(back) is type(value)
    assert all(a is b for a, b in zip(tensors_in(back), tensors_in(value), strict=True))
    doubled = mapped(value, lambda t: 2 * t)
    assert type(doubled) is type(value)
    for a, b in zip(tensors_in(doubled), tensors_in(value), strict=True):
        assert torch.equal(a, 2 * b)


def test_classes_that_are_not_there_become_named_values():
    tree, leaves = tree_of(Answer(X, [Y]))
    back = assembled(tree, lambda ref: leaves[int(ref.name)], {})
    assert back.logits is back["logits"] is X
    with pytest.raises(AttributeError, match="there is no 'logit'; there are logits, hidden"):
        _ = back.logit
    tree, leaves = tree_of(Pair(X, Y))
    back = assembled(tree, lambda ref: leaves[int(ref.name)], {})
    assert (back.left is X, back[1] is Y) == (True, True)


def test_only_values_of_a_trees_form_match_it():
    for value in ([X, {"y": Y}], Pair(X, Y), Cache(x=X), (1, "a", None)):
        tree, _ = tree_of(value)
        found = []
        assert matched(tree, value, found)
        assert all(a is b for a, b in zip(found, tensors_in(value), strict=True))
    tree, _ = tree_of({"x": X, "n": [1, Y]})
    for other in ({"x": X}, {"x": X, "n": [2, Y]}, {"x": X, "n": [1]}, [X], {"x": 1, "n": [1, Y]}):
        assert not matched(tree, other, [])
    tree, _ = tree_of(Pair(X, Y))
    assert not matched(tree, (X, Y), [])


def test_what_is_neither_tensor_nor_plain_is_refused():
    for value in (object(), {1: X}, [Pair(X, object())]):
        with pytest.raises(ConfigurationError):
            tree_of(value)
    # a record's other entries, such as a cache, are left out
    tree, _ = tree_of(Answer(X, object()))
    assert list(tree.values) == ["logits"]
    assert [t.shape for t in tensors_in(torch.complex(X, X))] == [(3, 2)]
