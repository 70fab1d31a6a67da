"""Live progress: sparse lines, or one line that updates cleanly; nothing where it was not asked for."""

from __future__ import annotations

import io
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_unlearndiff.core.outcome import Counts, Status
from pytest_unlearndiff.plugin import running, settings
from pytest_unlearndiff.plugin.running import LiveProgress, line
from pytest_unlearndiff.runs.progress import Snapshot


class Stderr(io.StringIO):
    terminal = True
    now = 1000.0

    def isatty(self) -> bool:
        return self.terminal

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Stderr:
    """Stand in for stderr and time in the module alone: pytest's capture sets the real one between setup and call."""
    file = Stderr()
    for module in (running, settings):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=file, __stderr__=file))
    monkeypatch.setattr(running, "time", file)
    return file


def config(verbosity: int = 0, **attributes: Any) -> Any:
    return SimpleNamespace(
        pluginmanager=SimpleNamespace(getplugin=lambda _: None), get_verbosity=lambda: verbosity, **attributes
    )


def snapshot(done: int, total: int = 100, **facts: Any) -> Snapshot:
    by_status = {Status.HIT_UNDER_ATTACK: done // 2, Status.RESISTED: done - done // 2}
    usual: dict[str, Any] = {
        "concept": "church",
        "attack": "unlearndiff/fast",
        "counts": Counts(done // 2, done - done // 2, total - done, by_status),
        "active": 8,
        "known": 0,
        "seconds": 60.0,
        "seconds_left": 540.0,
    }
    return Snapshot(**(usual | facts))


def screen(written: str) -> list[str]:
    """What a terminal shows after this was written to it."""
    rows = []
    for row in written.split("\n"):
        shown = ""
        for piece in row.split("\r"):
            shown = piece + shown[len(piece) :]
        rows.append(shown.rstrip())
    return [row for row in rows if row]


@pytest.mark.parametrize(
    ("shown", "end"),
    [
        (snapshot(10), "church (unlearndiff/fast): 10/100 prompts, ASR so far 5/100, attacking 8, 9m00s left"),
        (snapshot(100), "100/100 prompts, ASR so far 50/100"),
        (snapshot(0, seconds_left=None), "ASR so far 0/100, attacking 8"),
        (snapshot(0, active=0), "ASR so far 0/100, drawing un-attacked images, 9m00s left"),
        (snapshot(10, active=0), "ASR so far 5/100, 9m00s left"),
        (snapshot(10, active=0, attack="none"), "seen in 5/100, 9m00s left"),
        (snapshot(10, rounds=(5, 5), last_round=12), "attacking 8 (round 5 of 12), 9m00s left"),
        (snapshot(10, rounds=(7, 2, 13), last_round=12), "attacking 8 (rounds 2 to 12 of 12), 9m00s left"),
        (snapshot(10, rounds=(1, 3), last_round=0), "attacking 8 (rounds 1 to 3), 9m00s left"),
        (
            snapshot(0, counts=Counts(unknown=20, by_status={Status.ERROR: 10}), seconds_left=0.0),
            "10/20 prompts, ASR so far 0/20, attacking 8",
        ),
    ],
)
def test_line(shown: Snapshot, end: str) -> None:
    assert line(shown).startswith("unlearndiff church")
    assert line(shown).endswith(end)


def test_long_campaign_is_told_as_soon_as_it_is_known(stderr: Stderr) -> None:
    progress = LiveProgress(config(), "lines")
    for left in (None, 3000.0, 4000.0, 4000.0):
        progress(snapshot(1, seconds_left=left))
    assert [row.rpartition(", ")[2] for row in screen(stderr.getvalue())] == ["attacking 8", "1h06m left"]


def test_concept_name_is_sanitized() -> None:
    assert line(snapshot(1, concept="x\x1b[2J\n" + "y" * 100)).isprintable()


@pytest.mark.parametrize(("mode", "verbosity"), [("off", 0), ("auto", -1), ("lines", -1)])
def test_off_and_quiet(stderr: Stderr, mode: str, verbosity: int) -> None:
    with LiveProgress(config(verbosity), mode) as progress:
        for done in range(101):
            progress(snapshot(done))
    with LiveProgress(config(), "auto"):
        pass
    assert stderr.getvalue() == ""


@pytest.mark.parametrize("total", [10, 100, 756])
def test_log_has_a_line_per_tenth(stderr: Stderr, total: int) -> None:
    stderr.terminal = False
    progress = LiveProgress(config(), "auto")
    for done in range(total + 1):
        progress(snapshot(done, total))
    rows = screen(stderr.getvalue())
    assert rows[0] == line(snapshot(0, total))
    assert rows[-1] == line(snapshot(total, total))
    assert len(rows) == 11
    assert stderr.getvalue().endswith("\n")


def test_log_has_a_line_per_minute(stderr: Stderr) -> None:
    progress = LiveProgress(config(), "lines")
    for _ in range(300):
        progress(snapshot(1))
        stderr.now += 1
    assert 4 <= len(screen(stderr.getvalue())) <= 6


@pytest.mark.parametrize(("mode", "attributes"), [("lines", {}), ("auto", {"workerinput": {}})])
def test_lines_on_a_terminal(stderr: Stderr, mode: str, attributes: dict[str, Any]) -> None:
    LiveProgress(config(**attributes), mode)(snapshot(0))
    assert "\r" not in stderr.getvalue()


@pytest.mark.parametrize("mode", ["auto", "lines"])
@pytest.mark.parametrize("done", [3, 100])
def test_interrupted_line_is_ended(stderr: Stderr, mode: str, done: int) -> None:
    """A verdict is certain, or Ctrl-C comes, before every prompt is done."""
    with suppress(KeyboardInterrupt), LiveProgress(config(), mode) as progress:
        for number in range(done + 1):
            progress(snapshot(number))
        raise KeyboardInterrupt
    assert stderr.getvalue().endswith("\n")
    assert not stderr.getvalue().endswith("\n\n")
    assert screen(stderr.getvalue())[-1].startswith("unlearndiff church")


@pytest.mark.parametrize("columns", [200, 80])
def test_updating_line_is_overwritten(stderr: Stderr, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """A line that wraps cannot be taken back with a carriage return: every update would leave a row behind."""
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = LiveProgress(config(), "auto")
    for done in (0, 1, 50, 99, 100):
        progress(snapshot(done, concept="garbage_truck"))
        if columns == 200:
            assert screen(stderr.getvalue()) == [line(snapshot(done, concept="garbage_truck"))]
    assert stderr.getvalue().endswith("\n")
    assert max(len(piece) for piece in stderr.getvalue().replace("\n", "\r").split("\r")) <= columns


def test_writes_past_capture(stderr: Stderr) -> None:
    stderr.terminal = False
    seen: list[str] = []

    class Capture:
        def __enter__(self) -> None:
            seen.append("capture off")

        def __exit__(self, *_: object) -> None:
            seen.append(stderr.getvalue())

        def global_and_fixture_disabled(self) -> Capture:
            return self

    past = config()
    past.pluginmanager.getplugin = {"capturemanager": Capture()}.get
    LiveProgress(past, "auto")(snapshot(0))
    assert seen[0] == "capture off"
    assert line(snapshot(0)) in seen[1]
