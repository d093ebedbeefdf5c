"""The table of compiled products: how inputs are read x what is multiplied x what results are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ste_lightning.kernels.layout.call_record import Site
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS

__all__ = ["entry_point"]


def entry_point(site: Site, results: str) -> Callable[..., None]:
    """Return the compiled product of a site; the first call compiles it.

    Args:
        site: of the product.
        results: ``"floats"``, ``"bits"`` or ``"codes"``; or ``"once"`` for floats of floats that
            are packed by the same call, and ``"finished"`` with the float layers after them too.
    """
    layout = LAYOUTS[site.format]
    kind = "dot" if layout.by_dot else "codes" if layout.of_products else "bits"
    return _compiled(site.way, kind, results)


@functools.cache
def _compiled(way: str, kind: str, results: str) -> Callable[..., None]:
    found: Callable[..., None] = _table()[way, kind, results]()
    return found


@functools.cache
def _table() -> dict[tuple[str, str, str], Callable[[], Any]]:
    from ste_lightning.kernels.gemm import code_entry_points as to_codes
    from ste_lightning.kernels.gemm import entry_points as of_bits
    from ste_lightning.kernels.gemm import vnni

    return {
        ("lookup", "bits", "floats"): of_bits.lookup_floats,
        ("lookup", "bits", "bits"): of_bits.lookup_bits,
        ("lookup", "bits", "codes"): to_codes.lookup,
        ("lookup", "bits", "once"): of_bits.lookup_once,
        ("lookup", "bits", "finished"): of_bits.lookup_finished,
        ("gathered", "bits", "floats"): of_bits.gathered_floats,
        ("gathered", "bits", "bits"): of_bits.gathered_bits,
        ("gathered", "bits", "codes"): to_codes.gathered,
        ("gathered", "bits", "once"): of_bits.gathered_once,
        ("gathered", "bits", "finished"): of_bits.gathered_finished,
        ("rows", "bits", "floats"): of_bits.rows_floats,
        ("rows", "bits", "bits"): of_bits.rows_bits,
        ("rows", "bits", "codes"): to_codes.rows,
        ("rows", "bits", "once"): of_bits.rows_once,
        ("rows", "bits", "finished"): of_bits.rows_finished,
        ("gathered", "codes", "codes"): to_codes.gathered_digits,
        ("rows", "codes", "codes"): to_codes.rows_of_digits,
        ("gathered", "dot", "floats"): vnni.gathered_floats,
        ("gathered", "dot", "codes"): vnni.gathered_codes,
        ("rows", "dot", "floats"): vnni.rows_floats,
        ("rows", "dot", "codes"): vnni.rows_codes,
    }
