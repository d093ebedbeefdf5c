"""Tests of mutants, each by a fork of one pytest session that has everything imported already.

Where a change is inside functions their code is exchanged in the fork; where it is outside (a
constant, a default, a decorator) the tests run in a fork of a process that has imported nothing of
the package yet. The package is a copy of the project, so that processes which tests start see the
change as well.
"""

from __future__ import annotations

import ast
import compileall
import filecmp
import gc
import importlib
import inspect
import json
import os
import py_compile
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest

# what tests import from others
WARM = (
    *(
        "torch",
        "lightning",
        "numba",
        "hydra",
        "sklearn",
        "scipy.stats",
        "onnx",
        "matplotlib.pyplot",
    ),
    *("torchmetrics", "rich.table", "torch.export", "torch._dynamo"),
)
# where else a room is tried, besides the folder of its name
ALSO = {
    "functional": ("layers", "quantizers"),
    "quantizers": ("layers", "convert"),
    "callbacks": ("command_line",),
    "models": ("command_line", "callbacks"),
    "data": ("command_line",),
    "running": ("command_line", "deploy"),
    "deploy": ("io",),
}
COPY = ".mutants"  # always the same folder: kernels stay compiled for it
SECONDS_OF_A_TEST, WALL, CASES = 60, 900, 6
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are loaded already


def copied(root: Path) -> Path:
    """Bring the copy of the project up to date and return it."""
    copy = root / COPY
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\n")):
        source, target = root / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists() and not (target.exists() and filecmp.cmp(source, target, False)):
            shutil.copy2(source, target)
    # by contents: two versions of a file within one second have the same date
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(copy / "ste_lightning", quiet=2, invalidation_mode=mode)
    return copy


class Nearness:
    """Which tests speak most of what was changed: these come first."""

    def __init__(self, text: str, file: str, line: int) -> None:
        self.room, self.module = file.split("/")[1], file.removesuffix(".py").replace("/", ".")
        inside = [
            node.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            and node.lineno <= line <= (node.end_lineno or 0)
        ]
        self.names = [name for name in inside if not name.startswith("__")]
        self.public = re.findall(r"^(?:class|def) (\w+)", text, re.M)
        words = {word for name in (Path(file).stem, *self.names) for word in name.split("_")}
        self.words = {word.lower() for word in words if len(word) > 3}

    def of(self, said: str) -> float:
        """Return how much a text speaks of the change."""
        found = 30.0 * (f"from {self.module} import" in said)
        found += sum(10 * min(len(re.findall(rf"\b{name}\b", said)), 5) for name in self.names)
        found += sum(3 * (re.search(rf"\b{name}\b", said) is not None) for name in self.public)
        return found + sum(min(said.lower().count(word), 5) for word in self.words)

    def order(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Return the room's tests: a few cases of each test first, nearest file first."""
        folders = [self.room, *ALSO.get(self.room, ())]
        cases: dict[tuple[Path, str], list[pytest.Item]] = defaultdict(list)
        for item in items:
            if item.path.parent.name in folders:
                cases[item.path, item.originalname].append(item)  # type: ignore[attr-defined]
        files = {path: self.of(path.read_text(encoding="utf-8")) for path, _ in cases}
        keys: dict[pytest.Item, tuple[object, ...]] = {}
        for (path, _), members in cases.items():
            near = self.of(inspect.getsource(members[0].function))  # type: ignore[attr-defined]
            first = {round(i * (len(members) - 1) / (CASES - 1)) for i in range(CASES)}
            for index, item in enumerate(members):
                place = (folders.index(path.parent.name), -files[path], str(path))
                keys[item] = (index not in first, *place, -near, index)
        return sorted(keys, key=lambda item: keys[item])


def exchanged(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield the functions that differ.

    Raises:
        ValueError: if something outside of functions does, too.
    """
    if (old.co_code, old.co_names, len(old.co_consts)) != (
        new.co_code,
        new.co_names,
        len(new.co_consts),
    ):
        raise ValueError("not within functions")
    for before, after in zip(old.co_consts, new.co_consts, strict=True):
        if isinstance(before, CodeType) and isinstance(after, CodeType):
            if before.co_flags & inspect.CO_NEWLOCALS:
                if before != after:
                    yield before, after
            else:  # the body of a class
                yield from exchanged(before, after)
        elif type(before) is not type(after) or before != after:
            raise ValueError("not within functions")


def place_of(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def exchange(file: Path, old: str, new: str) -> bool:
    """Exchange the code of a file's functions; return whether that was possible."""
    try:
        pairs = list(exchanged(compile(old, str(file), "exec"), compile(new, str(file), "exec")))
        live = [f for f in gc.get_objects() if type(f) is FunctionType]
        for before, after in pairs:
            place = place_of(before)
            found = [f for f in live if place_of(f.__code__) == place]
            for function in found:
                function.__code__ = after
            if not found:
                return False
    except ValueError:
        return False
    return bool(pairs)


class Watch:
    """Pytest plugin: keeps which test failed; a test that does not end fails."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.running, self.failed, self.count = seconds, "", "", 0

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.spent():
            pytest.exit("enough", returncode=0)
        self.running = item.nodeid
        self.count += 1
        signal.setitimer(signal.ITIMER_PROF, SECONDS_OF_A_TEST)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid or "collection"

    def spent(self) -> bool:
        usage = resource.getrusage(resource.RUSAGE_SELF)  # a fork begins at 0
        return usage.ru_utime + usage.ru_stime > self.seconds


def forked(watch: Watch, answer: Path, work: Callable[[], None]) -> str:
    """Return the test that failed in a fork, or ``""``, with how many ran, see ``answer``."""
    answer.write_text("")
    child = os.fork()
    if child == 0:
        os.setsid()

        def hangs(*_: object) -> None:
            answer.write_text(json.dumps([f"{watch.running}\tdoes not end", watch.count]))
            os._exit(1)

        signal.signal(signal.SIGPROF, hangs)
        try:
            work()
        except BaseException as error:
            watch.failed = watch.failed or f"{watch.running}\t{type(error).__name__}"
        answer.write_text(json.dumps([watch.failed, watch.count]))
        os._exit(0)
    began = time.monotonic()
    while not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.02)
        if time.monotonic() - began > WALL:
            os.killpg(child, signal.SIGKILL)
    return answer.read_text() or json.dumps(["ends the process", 0])


class Fresh:
    """A process without the package, of which every request gets a fork."""

    def __init__(self, copy: Path, seconds: float) -> None:
        for name in WARM:
            importlib.import_module(name)
        self.asks, asked = os.pipe()[::-1]
        answers, self.answers = os.pipe()[::-1]
        if os.fork() == 0:
            os.chdir(copy)
            os.close(self.asks)
            with os.fdopen(asked) as requests:
                for request in requests:
                    watch = Watch(seconds)
                    answer = copy / "answer-fresh"

                    def work(request: str = request, watch: Watch = watch) -> None:
                        output = os.open(copy / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                        os.dup2(output, 1)
                        os.dup2(output, 2)
                        for file in json.loads(request):
                            code = int(pytest.main([*OPTIONS, file], plugins=[watch]))
                            if code not in (0, 5) or watch.spent():  # 5: only slow tests
                                watch.failed = watch.failed or ("collection" if code else "")
                                break

                    os.write(answers, (forked(watch, answer, work) + "\n").encode())
            os._exit(0)
        os.close(asked)

    def run(self, files: list[str]) -> tuple[str, int]:
        """Run test files; return the test that failed, or ``""``, and how many ran."""
        os.write(self.asks, (json.dumps(files) + "\n").encode())
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(self.answers, 4096)
        failed, count = json.loads(said)
        return failed, count


class Session:
    """Pytest plugin: instead of running the tests once, hand them to ``work``."""

    def __init__(self, copy: Path, fresh: Fresh, seconds: float, work: Callable[[Session], None]):
        self.copy, self.fresh, self.seconds, self.work = copy, fresh, seconds, work
        self.sound, self.broken = set[str](), set[str]()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.session = session
        self.work(self)
        return True

    def verdict(self, file: str, line: int, new: str) -> tuple[str, str]:
        """Return ``caught`` with the test, or ``survived`` with how many tests were run.

        A test that fails also without the change has caught nothing.
        """
        place = self.copy / file
        old = place.read_text(encoding="utf-8")
        order = Nearness(old, file, line).order(self.session.items)
        while True:
            order = [item for item in order if item.nodeid not in self.broken]
            place.write_text(new, encoding="utf-8")
            try:
                failed, count = self._run(order, lambda: exchange(place, old, new))
                if failed == "outside":
                    files = list(dict.fromkeys(item.nodeid.split("::")[0] for item in order))
                    failed, count = self.fresh.run(files)
            finally:
                place.write_text(old, encoding="utf-8")
            if not failed:
                return "survived", f"{count} tests pass"
            test = failed.split("\t")[0]
            if not test:
                raise RuntimeError(f"no test began: {failed}")
            if "::" not in test or test in self.sound:
                return "caught", failed
            again = [item for item in order if item.nodeid == test]
            if again and self._run(again, lambda: True)[0]:
                print("fails as it is:", test, flush=True)
                self.broken.add(test)
                continue
            self.sound.add(test)
            return "caught", failed

    def _run(self, items: list[pytest.Item], prepare: Callable[[], bool]) -> tuple[str, int]:
        watch = Watch(self.seconds)

        def work() -> None:
            if not prepare():
                watch.failed = "outside"
                return
            self.session.config.pluginmanager.register(watch)
            for item, after in zip(items, [*items[1:], None], strict=True):
                if watch.spent():
                    break
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if watch.failed:
                    break

        failed, count = json.loads(forked(watch, self.copy / "answer", work))
        return failed, count


def in_session(
    root: Path, seconds: float, rooms: list[str], work: Callable[[Session], None]
) -> None:
    """Collect the tests of some rooms in a copy of the project, and call ``work`` with them."""
    copy = copied(root)
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(copy))
    fresh = Fresh(copy, seconds)
    os.chdir(copy)
    folders = dict.fromkeys(f for room in rooms for f in (room, *ALSO.get(room, ())))
    tests = [f"tests/{folder}" for folder in folders if (copy / "tests" / folder).is_dir()]
    pytest.main([*OPTIONS, *tests], plugins=[Session(copy, fresh, seconds, work)])
