"""Give one schedule to all quantizers of a policy that can take it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from ste_lightning.convert.policy import Policy, plain
from ste_lightning.errors import ConfigurationError
from ste_lightning.quantizers import Operand, QuantizerSpec, build

__all__ = ["with_schedule"]


def with_schedule(policy: Policy, schedule: str | Mapping[str, Any] | None) -> Policy:
    """Return ``policy`` with ``schedule`` in every specification that can take it.

    Specifications with a schedule of their own, and modules, stay as they are.

    Raises:
        ConfigurationError: if no specification can take it, with the reason of the last.
    """
    if schedule is None:
        return policy
    schedule = plain(schedule)
    failures: list[ConfigurationError] = []
    taken = 0
    rules = []
    for rule in policy.rules:
        specs: dict[str, Any] = {}
        operands: dict[str, Operand] = {"weight": "weights", "input": "activations"}
        for key, operand in operands.items():
            spec: QuantizerSpec = getattr(rule, key)
            if spec is None or isinstance(spec, nn.Module):
                continue
            spec = {"map": spec} if isinstance(spec, str) else dict(spec)
            if "schedule" in spec:
                continue
            try:
                build({**spec, "schedule": schedule}, operand)
            except ConfigurationError as error:
                failures.append(error)
                continue
            specs[key] = {**spec, "schedule": schedule}
            taken += 1
        rules.append(dataclasses.replace(rule, **specs))
    if taken == 0:
        reason = f" ({failures[-1]})" if failures else ""
        raise ConfigurationError(
            f"schedule={schedule!r} cannot be used: no quantizer of the policy can take it{reason}"
        )
    return Policy(tuple(rules))
