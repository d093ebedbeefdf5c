"""Tables of results: ``python -m ste_lightning.results train|page|check|claims [NAME ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.running.command import answered, complain

if TYPE_CHECKING:
    from ste_lightning.running.results.plan import Plan

__all__ = ["main", "one_run"]

RUNS_OF_A_PROCESS = 50


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.results",
        description="A plan NAME.yaml says what is trained; its table NAME.csv keeps the results.",
    )
    parser.add_argument(
        "what",
        choices=("train", "page", "check", "claims"),
        help="train: what the tables miss; page: write the page of all tables; "
        "check: train one row of each table again and compare; "
        "claims: write the page of the theory's claims, from FOLDER/theory",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of plans; none: all")
    parser.add_argument("--folder", type=Path, default=Path("results"), help="of plans and tables")
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/results"), help="where runs are kept"
    )
    parser.add_argument(
        "--out", type=Path, help="of the page; default docs/results.md or docs/theory/claims.md"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument(
        "--small",
        action="store_true",
        help="train the small version: one seed, short runs, tables under --work",
    )
    return parser


def _plans(folder: Path, names: Sequence[str]) -> list[Path]:
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name in names:
        if name not in known:
            raise unknown(f"plan in {folder}", name, known)
    if not known:
        raise ConfigurationError(f"--folder {folder} cannot be used: it holds no plan (*.yaml).")
    return [known[name] for name in names or known]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, 1 if something was refused, is missing or differs.
    """
    given = _parser().parse_args(arguments)
    return answered(lambda: _run(given), "interrupted; the same command goes on")


def _run(given: argparse.Namespace) -> int:
    if given.what == "claims":
        from ste_lightning.theory.claims.page import write_claims

        out = given.out or Path("docs/theory/claims.md")
        write_claims(given.folder / "theory", out)
        print(f"written: {out}")
        return 0
    paths = _plans(given.folder, given.names)
    if given.jobs < 1:
        raise ConfigurationError(f"--jobs {given.jobs} cannot be used: use a positive integer.")
    from ste_lightning.running.results.page import write_page  # --help need not wait for torch
    from ste_lightning.running.results.plan import read_plan

    if given.what == "page":
        out = given.out or Path("docs/results.md")
        write_page(given.folder, out)
        print(f"written: {out}")
        return 0
    plans = [read_plan(path) for path in paths]
    wrong = _trained(plans, given)
    for line in wrong:
        complain(line)
    return int(bool(wrong))


def _trained(plans: Sequence[Plan], given: argparse.Namespace) -> list[str]:
    """Train in processes that stay, as importing takes longer than many of the runs."""
    from ste_lightning.running.results.check import repeated
    from ste_lightning.running.results.train import small_version, train_plan

    work, wrong = given.work.resolve(), []
    fresh = get_context("spawn")
    with ProcessPoolExecutor(given.jobs, fresh, max_tasks_per_child=RUNS_OF_A_PROCESS) as pool:

        def trained(overrides: list[str]) -> tuple[int, str]:
            return pool.submit(one_run, overrides).result()

        for plan in plans:
            if given.what == "check":
                wrong += repeated(plan, work / "check", trained)
                continue
            if given.small:
                plan = small_version(plan, work / "small")
            place = work / "small" if given.small else work
            wrong += train_plan(plan, place, trained, given.jobs)
            print(f"written: {plan.table}")
    return wrong


def one_run(overrides: list[str]) -> tuple[int, str]:
    """Train in this process.

    Args:
        overrides: as on the command line.

    Returns:
        The exit status, and what went wrong.
    """
    from ste_lightning import train

    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        status = train.main(overrides)
    errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    return status, errors[-1].removeprefix("error: ") if errors else ""


if __name__ == "__main__":
    sys.exit(main())
