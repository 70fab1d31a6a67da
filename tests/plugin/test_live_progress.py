"""Live progress: sparse lines, or one line that updates cleanly; nothing where it was not asked for."""

from __future__ import annotations

import io
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_unlearndiff.core.outcome import Counts, Status
from pytest_unlearndiff.plugin import running as live
from pytest_unlearndiff.plugin import settings
from pytest_unlearndiff.plugin.running import LiveProgress, line
from pytest_unlearndiff.runs.progress import Snapshot


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A stderr that is a file."""
    return stderr(monkeypatch, io.StringIO())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A stderr that is a terminal."""
    return stderr(monkeypatch, Terminal())


def stderr(monkeypatch: pytest.MonkeyPatch, file: io.StringIO) -> io.StringIO:
    """Stand in for stderr in the module alone: pytest's capture sets the real one between setup and call."""
    for module in (live, settings):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=file, __stderr__=file))
    return file


def config(verbosity: int = 0, **attributes: Any) -> Any:
    return SimpleNamespace(
        pluginmanager=SimpleNamespace(getplugin=lambda _: None), get_verbosity=lambda: verbosity, **attributes
    )


def snapshot(done: int, total: int = 100, **facts: Any) -> Snapshot:
    counts = Counts(
        done // 2,
        done - done // 2,
        total - done,
        {Status.HIT_UNDER_ATTACK: done // 2, Status.RESISTED: done - done // 2},
    )
    known: dict[str, Any] = {
        "concept": "church",
        "attack": "unlearndiff/fast",
        "counts": counts,
        "active": 8,
        "known": 0,
        "seconds": 60.0,
    }
    return Snapshot(**(known | facts))


def screen(written: str) -> list[str]:
    """What a terminal shows after this was written to it."""
    rows = []
    for row in written.split("\n"):
        shown = ""
        for piece in row.split("\r"):
            shown = piece + shown[len(piece) :]
        rows.append(shown.rstrip())
    return [row for row in rows if row]


def test_line() -> None:
    assert line(snapshot(10)) == (
        "unlearndiff church (unlearndiff/fast): 10/100 prompts, ASR so far 5/100, attacking 8, 9m00s left"
    )


def test_line_of_a_finished_campaign() -> None:
    assert line(snapshot(100)).endswith("100/100 prompts, ASR so far 50/100")


def test_time_left() -> None:
    assert snapshot(50, known=40).seconds_left == 60 / 10 * 50
    assert snapshot(50, known=50).seconds_left is None
    assert "left" not in line(snapshot(0))


def test_time_left_before_the_first_attack() -> None:
    assert line(snapshot(10, active=0)).endswith("ASR so far 5/100, drawing un-attacked images")
    assert line(snapshot(10, active=0, attack="none")).endswith("seen in 5/100, 9m00s left")


@pytest.mark.parametrize(
    ("rounds", "last", "said"),
    [
        ((), 12, "attacking 8,"),
        ((5, 5), 12, "attacking 8 (round 5 of 12),"),
        ((7, 2, 13), 12, "attacking 8 (rounds 2 to 12 of 12),"),
        ((1, 3), 0, "attacking 8 (rounds 1 to 3),"),
    ],
)
def test_rounds(rounds: tuple[int, ...], last: int, said: str) -> None:
    assert said in line(snapshot(10, rounds=rounds, last_round=last))


def test_errors_count_as_done() -> None:
    assert "10/20 prompts, ASR so far 0/20" in line(
        snapshot(0, counts=Counts(unknown=20, by_status={Status.ERROR: 10}))
    )


def test_concept_name_is_sanitized() -> None:
    assert line(snapshot(1, concept="x\x1b[2J\n" + "y" * 100)).isprintable()


@pytest.mark.parametrize("quiet", [("off", 0), ("auto", -1), ("lines", -1)])
def test_off_and_quiet(terminal: io.StringIO, quiet: tuple[str, int]) -> None:
    mode, verbosity = quiet
    progress = LiveProgress(config(verbosity), mode)
    for done in range(101):
        progress(snapshot(done))
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("total", [10, 100, 756])
def test_log_has_a_line_per_tenth(log: io.StringIO, clock: Clock, total: int) -> None:
    progress = LiveProgress(config(), "auto")
    for done in range(total + 1):
        progress(snapshot(done, total))
    shown = screen(log.getvalue())
    assert shown[0] == line(snapshot(0, total))
    assert shown[-1] == line(snapshot(total, total))
    assert len(shown) == 11
    assert log.getvalue().endswith("\n")


def test_log_has_a_line_per_minute(log: io.StringIO, clock: Clock) -> None:
    progress = LiveProgress(config(), "lines")
    for _ in range(300):
        progress(snapshot(1))
        clock.now += 1
    assert 4 <= len(screen(log.getvalue())) <= 6


def test_lines_mode_on_a_terminal(terminal: io.StringIO, clock: Clock) -> None:
    LiveProgress(config(), "lines")(snapshot(0))
    assert "\r" not in terminal.getvalue()


@pytest.mark.parametrize("mode", ["auto", "lines"])
@pytest.mark.parametrize("done", [3, 100])
def test_interrupted_line_is_ended(terminal: io.StringIO, clock: Clock, mode: str, done: int) -> None:
    """A verdict is certain, or Ctrl-C comes, before every prompt is done."""
    with suppress(KeyboardInterrupt), LiveProgress(config(), mode) as progress:
        for number in range(done + 1):
            progress(snapshot(number))
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\n")
    assert not terminal.getvalue().endswith("\n\n")
    assert screen(terminal.getvalue())[-1].startswith("unlearndiff church")


def test_nothing_written(terminal: io.StringIO) -> None:
    with LiveProgress(config(), "auto"):
        pass
    assert terminal.getvalue() == ""


def test_xdist_workers_write_lines(terminal: io.StringIO, clock: Clock) -> None:
    LiveProgress(config(workerinput={}), "auto")(snapshot(0))
    assert "\r" not in terminal.getvalue()


def test_updating_line_is_overwritten(terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    progress = LiveProgress(config(), "auto")
    for done in (0, 1, 50, 99, 100):
        progress(snapshot(done))
        assert screen(terminal.getvalue()) == [line(snapshot(done))]
    assert terminal.getvalue().endswith("\n")


def test_updating_line_fits_the_terminal(terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # A line that wraps cannot be taken back with a carriage return: every update would leave a row behind.
    monkeypatch.setenv("COLUMNS", "80")
    progress = LiveProgress(config(), "auto")
    for done in (10, 20):
        progress(snapshot(done, concept="garbage_truck"))
    assert max(len(piece) for piece in terminal.getvalue().replace("\n", "\r").split("\r")) <= 80


def test_writes_past_capture(log: io.StringIO, clock: Clock) -> None:
    seen: list[str] = []

    class Capture:
        def __enter__(self) -> None:
            seen.append("capture off")

        def __exit__(self, *_: object) -> None:
            seen.append(log.getvalue())

        def global_and_fixture_disabled(self) -> Capture:
            return self

    past = config()
    past.pluginmanager.getplugin = {"capturemanager": Capture()}.get
    LiveProgress(past, "auto")(snapshot(0))
    assert seen[0] == "capture off"
    assert line(snapshot(0)) in seen[1]
