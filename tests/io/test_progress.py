"""Bars over stages: told where somebody looks, silent elsewhere."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from ste_lightning.io import progress


def test_a_bar_over_stages_says_what_is_done_and_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars: list[Progress] = []
    start = Progress.start
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setattr(Progress, "start", lambda bar: (bars.append(bar), start(bar)))
    with progress.stages(3) as begin:
        seen = []
        for doing in ("restoring", "reading", "packing"):
            begin(doing)
            (task,) = bars[0].tasks
            seen.append((task.description, task.completed, task.total))
        task.fields["at"] = 20.0
        left = bars[0].columns[-1].render(task).plain  # 20 s for two of three
        assert "0:00:20" <= left <= "0:00:30"
    assert seen == [("restoring", 0, 3), ("reading", 1, 3), ("packing", 2, 3)]
    assert not bars[0].live.is_started  # the terminal is free again
    with pytest.raises(ZeroDivisionError), progress.stages(1):
        raise ZeroDivisionError
    assert not bars[1].live.is_started


def test_files_and_pipes_get_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stages(2) as begin:
        begin("restoring")
        begin("packing")
    assert capsys.readouterr() == ("", "")
