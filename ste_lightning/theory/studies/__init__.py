"""Studies: grids of simulations, cell by cell, stored, resumed, tabulated and drawn.

A study is a list of *cells* (:mod:`.cells`), each a call of
:func:`ste_lightning.theory.simulate`. :func:`run` does those that are not stored yet
(:mod:`.runner`, :mod:`.store`), and the tables (:mod:`.tables`) and figures
(:mod:`ste_lightning.figures.studies`) are made from what is stored.
"""

from ste_lightning.theory.studies.cells import Cell, expand
from ste_lightning.theory.studies.runner import Result, run

__all__ = ["Cell", "Result", "expand", "run"]
