"""The table of compiled products: how inputs are read x what is multiplied x what results are."""

from __future__ import annotations

import functools
from collections.abc import Callable

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
    from ste_lightning.kernels.gemm import entry_points as of
    from ste_lightning.kernels.jit import c_functions as c

    at_once: dict[tuple[str, str], Callable[[], Callable[..., None]]] = {
        ("lookup", "once"): of.lookup_once,
        ("lookup", "finished"): of.lookup_finished,
        ("gathered", "once"): of.gathered_once,
        ("gathered", "finished"): of.gathered_finished,
        ("rows", "once"): of.rows_once,
        ("rows", "finished"): of.rows_finished,
    }
    if (way, results) in at_once:
        return at_once[way, results]()
    bodies: dict[tuple[str, str], Callable[..., None]] = {
        ("lookup", "bits"): of.lookup,
        ("gathered", "bits"): of.gathered,
        ("rows", "bits"): of.rows,
        ("gathered", "codes"): of.gathered_digits,
        ("rows", "codes"): of.rows_of_digits,
        ("gathered", "dot"): of.gathered_dot,
        ("rows", "dot"): of.rows_dot,
    }
    out = {"floats": c.FLOATS, "bits": c.BYTES, "codes": c.CODES}[results]
    given = (c.INTEGERS, c.BYTES, c.SIZE, c.SUMS, out, *[c.SIZE] * 4)
    return c.addressed(*given)(bodies[way, kind]).compiled()
