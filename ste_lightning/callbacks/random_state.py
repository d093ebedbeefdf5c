"""States of the random number generators that training draws from, as plain data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["random_state", "set_random_state"]


def random_state() -> dict[str, Any]:
    """Return the states of torch's (CPU and GPUs), NumPy's and Python's generators.

    Tensors and numbers only, so that a checkpoint which holds them loads with
    ``weights_only=True``.
    """
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss_next],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators to a state of :func:`random_state`.

    States of GPUs that this machine does not have are left out.
    """
    torch.set_rng_state(state["torch"])
    keys, position, has_gauss, gauss = state["numpy"]
    words: Tensor = keys
    np.random.set_state(
        ("MT19937", words.numpy().astype(np.uint32), int(position), int(has_gauss), float(gauss))
    )
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))
    for device, saved in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)
