"""What a call of a network does: a list of actions on numbered places, made once.

An action costs about a microsecond beside what it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ste_lightning.deploy.graph.operators import FACTORIES, SIZES, resolved
from ste_lightning.deploy.graph.steps import Ref, Step, applied, filled, references

__all__ = ["Plan", "planned"]


class _Action(NamedTuple):
    """A step with what it calls.

    Attributes:
        call: a layer, a fusion or a function.
        source: the place that is the only argument, -1 for other arguments.
        args: the arguments, with ``None`` where places go.
        spots: (position, place) of the arguments that are results.
        nested: (position, tree) of those that hold results.
        kwargs: keywords without results.
        keywords: keywords that are results, or hold some.
        result: the place of what it makes.
        done: places that no later action needs.
    """

    call: Callable[..., Any]
    source: int
    args: list[Any]
    spots: tuple[tuple[int, int], ...]
    nested: tuple[tuple[int, Any], ...]
    kwargs: dict[str, Any]
    keywords: dict[str, Any]
    result: int
    done: tuple[int, ...]


class Plan:
    """Actions, and the places they start from.

    Args:
        steps: in order.
        calls: what layers and fusions are, by name.
        values: constants by the names that steps use.
        inputs: names of the inputs.
        output: what is returned.
        device: of tensors that are made on the way.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        calls: Mapping[str, Callable[..., Any]],
        values: Mapping[str, Tensor],
        inputs: Sequence[str],
        output: Any,
        device: torch.device,
    ) -> None:
        self.places = {name: i for i, name in enumerate([*inputs, *values])}
        for step in steps:
            self.places.setdefault(step.result, len(self.places))
        self._first = [*[None] * len(inputs), *values.values()]
        self._first += [None] * (len(self.places) - len(self._first))
        self._inputs = len(inputs)
        self.output = output
        kept = {self.places[name] for name in references(output)}
        kept |= set(range(len(inputs), len(inputs) + len(values)))
        actions: list[_Action] = []
        for step in reversed(steps):
            used = {self.places[name] for name in references((step.args, step.kwargs))}
            used.add(self.places[step.result])
            actions.append(self._action(step, calls, tuple(sorted(used - kept)), device))
            kept |= used
        self.actions = actions[::-1]

    def _action(
        self,
        step: Step,
        calls: Mapping[str, Callable[..., Any]],
        done: tuple[int, ...],
        device: torch.device,
    ) -> _Action:
        kwargs = dict(step.kwargs)
        if step.op == "function":
            call = resolved(step.target)
            if step.target in FACTORIES and device.type != "cpu":
                kwargs["device"] = device
            if step.target not in SIZES:
                call = getattr(call, "_op", call)  # without a wrapper's microsecond
        else:
            call = calls[step.target]
        args = [self._placed(value) for value in step.args]
        spots = [(i, a.name) for i, a in enumerate(step.args) if isinstance(a, Ref)]
        places = tuple((i, self.places[name]) for i, name in spots)
        known = {i for i, _ in spots}
        nested = [i for i, a in enumerate(step.args) if i not in known and references(a)]
        keywords = {k: self._placed(v) for k, v in kwargs.items() if references(v)}
        plain = {k: v for k, v in kwargs.items() if k not in keywords}
        alone = len(args) == len(places) == 1 and not kwargs
        return _Action(
            call,
            places[0][1] if alone else -1,
            [None if i in known or i in nested else a for i, a in enumerate(args)],
            places,
            tuple((i, args[i]) for i in nested),
            plain,
            keywords,
            self.places[step.result],
            done,
        )

    def _placed(self, value: Any) -> Any:
        """Return a tree with places for names."""
        return filled(value, lambda ref: _Place(self.places[ref.name]), lambda record: record)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Return all places after a call; those that nobody needs hold nothing."""
        values = self._first.copy()
        values[: self._inputs] = inputs
        for call, source, args, spots, nested, kwargs, keywords, result, done in self.actions:
            if source >= 0:
                values[result] = call(values[source])
            else:
                given = args.copy()
                for position, place in spots:
                    given[position] = values[place]
                for position, tree in nested:
                    given[position] = _put(tree, values)
                if keywords:
                    kwargs = {**kwargs, **{k: _put(v, values) for k, v in keywords.items()}}
                values[result] = call(*given, **kwargs)
            for place in done:
                values[place] = None
        return values

    def value(self, ref: Ref, values: Sequence[Any]) -> Any:
        """Return what a reference stands for after a call."""
        return values[self.places[ref.name]]


class _Place(int):
    """The place of a result among an action's arguments."""


def _put(tree: Any, values: Sequence[Any]) -> Any:
    if isinstance(tree, _Place):
        return values[tree]
    if isinstance(tree, (list, tuple)):
        return [_put(item, values) for item in tree]
    return tree


@torch.no_grad()
def planned(
    steps: Sequence[Step], values: Mapping[str, Tensor]
) -> tuple[list[Step], dict[str, Tensor]]:
    """Compute once what depends on constants alone.

    Args:
        steps: without any that change their arguments.
        values: constants by the names that steps use.

    Returns:
        The steps that remain, and all constants.
    """
    known, rest = dict(values), []
    for step in steps:
        names = references((step.args, step.kwargs))
        plain = step.op == "function" and step.target not in SIZES
        if plain and names and all(name in known for name in names):
            result = applied(resolved(step.target), step, known)
            if isinstance(result, Tensor):
                known[step.result] = result
                continue
        rest.append(step)
    return rest, known
