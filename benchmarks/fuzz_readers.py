"""Damaged files for every reader: loaded or refused by name, quickly, in little memory.

    make fuzz          or    python benchmarks/fuzz_readers.py [--inputs 100000] [--only NAME]

Each input is a sound file with one to eight changes: bits and bytes, runs cut out, doubled or
moved, integers and decimal numbers replaced by extreme ones; or a file that would run code if it
were unpickled. Of ``packed graph`` it is the architecture, as JSON, of which one to three values
are replaced (layers, steps, arguments, types, sizes), with the checksum made right again; of
``made graph`` one to five steps are added, of any operator that graphs may name, with arguments of
the kinds that its schema asks for. What loads must also answer to its own sample. Counted as
faults: any error but ConfigurationError, more than 10 s of work, more than 512 MiB, code that ran,
messages that advise to unpickle, and what ends the process: inputs are tried in another one, which
is begun anew. Each input follows from its number alone: a run that was stopped goes on where it
was, after it has tried its faults once more (``--again`` begins anew). Counts are in
benchmarks/results/fuzz_readers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz_inputs import Reader, readers

from ste_lightning.errors import ConfigurationError

SECONDS, MEMORY, ROOM = 10, 512 << 20, 6 << 30  # of work; bytes used; bytes of address space
RESULTS = Path(__file__).parent / "results" / "fuzz_readers.json"
ADVICE = re.compile(r"weights_only\W+(to )?False|allow_pickle\W*True", re.IGNORECASE)
Row = dict[str, Any]
NOTHING: Row = {
    **dict.fromkeys(("inputs", "loaded", "refused", "faults"), 0),
    **{"first of each fault": {}, "slowest, s": 0.0},
}


def attempt(read: Callable[[Path], Any], path: Path) -> str:
    """Return what became of a file."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of work: other processes are no fault
    try:
        read(path)
    except ConfigurationError as error:
        said = str(error)
        if "allocate memory" in said or "bad_alloc" in said:
            return f"fault: memory: {said[:120]}"
        return "fault: advises to unpickle" if ADVICE.search(said) else "refused"
    except (Exception, MemoryError) as error:
        return f"fault: {type(error).__name__}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "loaded"


def hang(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s of work")


def memory() -> int:
    """Return this process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def attempts(reader: Reader, folder: Path, first: int, last: int, seconds: float) -> Iterator[str]:
    """Yield a line for each input: seconds, and what became of it."""
    path = folder / f"a{reader.suffix}"
    for file in reader.sound:
        path.write_bytes(file)
        attempt(reader.read, path)
    used = memory()
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    began = time.process_time()
    for index in range(first, last):
        path.write_bytes(reader.input(index))
        start = time.process_time()
        if start - began > seconds:
            return
        outcome = attempt(reader.read, path)
        if index % 100 == 99 or index + 1 == last:  # to ask takes milliseconds
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if peak - limit > MEMORY >> 10:
                outcome = f"fault: one of the last 100 takes {(peak - limit) >> 10} MiB"
                limit = peak
        if (folder / "code ran").exists():
            outcome = "fault: code ran"
        yield f"{time.process_time() - start:.3f} {outcome}"


def outcomes(
    reader: Reader, folder: Path, done: int, inputs: int, seconds: float
) -> Iterator[tuple[float, str]]:
    """Yield seconds and outcome of each input from ``done``, tried in a process of its own."""
    while done < inputs:
        answers, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(answers)
            with os.fdopen(told, "w", buffering=1) as output:
                for line in attempts(reader, folder, done, inputs, seconds):
                    output.write(line.replace("\n", " ") + "\n")
            os._exit(0)
        os.close(told)
        with os.fdopen(answers) as lines:
            for line in lines:
                took, _, outcome = line.rstrip().partition(" ")
                done += 1
                yield float(took), outcome
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return
        done += 1
        print(f"{reader.name}: input {done - 1} ends the process", flush=True)
        yield 0.0, f"fault: ends the process by signal {os.WTERMSIG(status)}"


def retried(reader: Reader, folder: Path, row: Row, seconds: float) -> Row:
    """Try faults once more, if all their inputs are known: what is mended counts as it is now."""
    known: dict[str, int] = dict(row["first of each fault"])
    if row["faults"] != len(known):
        return row
    for said, index in row["first of each fault"].items():
        first = index - 99 if "of the last 100" in said else index
        now = [outcome for _, outcome in outcomes(reader, folder, first, index + 1, seconds)]
        if not any(outcome.startswith("fault") for outcome in now):
            del known[said]
            row = {**row, "faults": row["faults"] - 1, now[-1]: row[now[-1]] + 1}
    return {**row, "first of each fault": known}


def tried(reader: Reader, folder: Path, row: Row, inputs: int, seconds: float) -> Iterator[Row]:
    """Go on with a reader's counts; yield them now and then, and at the end."""
    row = retried(reader, folder, row, seconds)
    for took, outcome in outcomes(reader, folder, row["inputs"], inputs, seconds):
        kind, index = outcome.partition(":")[0], row["inputs"]
        row["inputs"] += 1
        row["faults" if kind == "fault" else kind] += 1
        row["slowest, s"] = max(row["slowest, s"], took)
        if kind == "fault":
            row["first of each fault"].setdefault(outcome, index)
        if row["inputs"] % 2000 == 0:
            yield row
    yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--only", default=None)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, per reader")
    asked = parser.parse_args()
    signal.signal(signal.SIGPROF, hang)
    warnings.simplefilter("ignore")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    faults = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for reader in readers(folder):
            if asked.only not in (None, reader.name):
                continue
            before = NOTHING if asked.again else found.get(reader.name, NOTHING)
            for row in tried(reader, folder, before, asked.inputs, asked.seconds):
                found[reader.name] = row
                RESULTS.write_text(json.dumps(found, indent=2) + "\n")
            faults += found[reader.name]["faults"]
            print(reader.name, json.dumps(found[reader.name]), flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
