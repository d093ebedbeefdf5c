"""Do the tests notice when the code is wrong? A random sample of mutants, each with its verdict.

    make mutants          or    python benchmarks/mutants.py [--sample 150] [--seed 0] [--survivors]

A mutant is the package with one place changed by one of cosmic-ray's operators: a number, a
comparison, an operator, a condition, a decorator, a loop. Places are drawn uniformly, rooms in
proportion to their lines; the operator is drawn among those that fit the place. Left out are
places that never run (annotations, blocks for type checkers) and substitutes that mean the same
by the language (identity for equality). Each mutant runs its room's tests, those first that speak
most of what was changed, until one fails or two minutes are spent. The table goes to
benchmarks/results/mutants.json; verdicts ``equivalent`` are written there by hand, with a reason,
and kept. ``--survivors`` runs those again that nothing has caught.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from mutant_runs import Session, in_session

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
ROOMS = ("functional", "quantizers", "callbacks", "metrics", "models", "data", "running", "deploy")
NEED_ARGUMENTS = ("core/VariableInserter", "core/VariableReplacer")
Place = tuple[int, int]


@dataclass
class Mutant:
    """One change; ``before`` and ``after`` are the lines from ``line`` on."""

    file: str
    line: int
    operator: str
    before: list[str]
    after: list[str]
    verdict: str = "open"
    by: str = ""

    def source(self) -> str:
        """Return the file's text with the change; the lines may have moved since."""
        lines = (ROOT / self.file).read_text(encoding="utf-8").split("\n")
        span = len(self.before)
        found = [at for at in range(len(lines)) if lines[at : at + span] == self.before]
        if not found:
            raise LookupError(f"{self.file}:{self.line} has changed: draw a new sample")
        at = min(found, key=lambda start: abs(start + 1 - self.line))
        self.line = at + 1
        return "\n".join([*lines[:at], *self.after, *lines[at + span :]])


def families() -> dict[str, list[str]]:
    """Return operators that change the same places, under the first one's name."""
    found: dict[str, list[str]] = {}
    for name in sorted(operator_names()):
        if name in NEED_ARGUMENTS or (name.endswith(("_Is", "_IsNot")) and "_Is" not in name[:-6]):
            continue
        found.setdefault(name.rsplit("_", 1)[0], []).append(name)
    return found


def never_runs(tree: ast.Module) -> Iterator[tuple[Place, Place]]:
    """Yield where the text is not code that runs."""
    for node in ast.walk(tree):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            notes.append(node)
        for part in filter(None, notes):
            yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def places(text: str) -> list[tuple[str, int, Place]]:
    """Return (family, occurrence, position) of every change that can be made."""
    left_out = list(never_runs(ast.parse(text)))
    nodes = list(ast_nodes(get_ast(text)))
    found = []
    for family, members in families().items():
        operator = get_operator(members[0])()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            if not any(low <= start < high for low, high in left_out):
                found.append((family, occurrence, start))
    return found


def drawn(file: Path, chance: random.Random) -> Mutant | None:
    """Return a random mutant of a file; None where the change does not compile."""
    text = file.read_text(encoding="utf-8")
    family, occurrence, _ = chance.choice(places(text))
    name = chance.choice(families()[family])
    changed = mutate_code(text, get_operator(name)(), occurrence)
    try:
        if changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
            return None
    except SyntaxError:
        return None
    old, new = text.split("\n"), changed.split("\n")
    edits = [
        op
        for op in difflib.SequenceMatcher(None, old, new, False).get_opcodes()
        if op[0] != "equal"
    ]
    first, last, start, end = edits[0][1], edits[-1][2], edits[0][3], edits[-1][4]
    return Mutant(str(file.relative_to(ROOT)), first + 1, name, old[first:last], new[start:end])


def sample(size: int, seed: int) -> list[Mutant]:
    """Draw mutants, rooms and files in proportion to their places."""
    chance = random.Random(seed)
    files = {room: sorted((ROOT / "ste_lightning" / room).rglob("*.py")) for room in ROOMS}
    count = {
        file: len(places(file.read_text(encoding="utf-8")))
        for room in ROOMS
        for file in files[room]
    }
    lines = {
        room: sum(len(f.read_text(encoding="utf-8").split("\n")) for f in files[room])
        for room in ROOMS
    }
    found: list[Mutant] = []
    for room in ROOMS:
        wanted = len(found) + round(size * lines[room] / sum(lines.values()))
        while len(found) < wanted:
            (file,) = chance.choices(files[room], [count[file] for file in files[room]])
            mutant = drawn(file, chance)
            if mutant is not None and mutant not in found:
                found.append(mutant)
    return found


def written(mutants: list[Mutant], seed: int) -> Counter[str]:
    """Write the table and return how many there are of each verdict."""
    verdicts = Counter(mutant.verdict for mutant in mutants)
    rooms = {
        room: dict(Counter(m.verdict for m in mutants if m.file.split("/")[1] == room))
        for room in ROOMS
    }
    table = {
        "seed": seed,
        "verdicts": dict(verdicts),
        "rooms": rooms,
        "mutants": [asdict(mutant) for mutant in mutants],
    }
    RESULTS.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--survivors", action="store_true", help="only what nothing has caught")
    parser.add_argument("--room", choices=ROOMS)
    parser.add_argument("--seconds", type=float, default=120, help="of a mutant, at most")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop")
    asked = parser.parse_args()
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known = [Mutant(**row) for row in old.get("mutants", [])]
    if asked.survivors or (
        old.get("seed") == asked.seed and any(m.verdict == "open" for m in known)
    ):
        mutants = known  # an unfinished sample goes on
        again = ("open", "survived") if asked.survivors else ("open",)
    else:
        mutants, again = sample(asked.sample, asked.seed), ("open",)
        written(mutants, asked.seed)
    todo = [m for m in mutants if m.verdict in again and asked.room in (None, m.file.split("/")[1])]
    began = time.monotonic()

    def work(session: Session) -> None:
        for mutant in todo:
            if time.monotonic() - began > asked.minutes * 60:
                break
            text = mutant.source()
            mutant.verdict, mutant.by = session.verdict(mutant.file, mutant.line, text)
            print(mutant.verdict, f"{mutant.file}:{mutant.line}", mutant.by, flush=True)
            written(mutants, asked.seed)

    rooms = list(dict.fromkeys(mutant.file.split("/")[1] for mutant in todo))
    in_session(ROOT, asked.seconds, rooms, work)
    verdicts = written(mutants, asked.seed)
    good = verdicts["caught"] + verdicts["equivalent"]
    print(f"{good} of {len(mutants)} caught or equivalent: {dict(verdicts)}")
    return 0 if good >= 0.9 * len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
