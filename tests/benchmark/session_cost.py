"""Measure the CPU time that the plugin costs a session that attacks nothing.

Run from the project's folder: ``python tests/benchmark/session_cost.py``. Both sides of a row run in turn, each session
in a process of its own; the least of many repetitions is the figure, since everything else only adds to it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support")]

from worlds import MODEL, REQUIRE, World  # noqa: E402

GATES, PROMPTS = 8, 50
PLAIN = "import pytest\n\n\n@pytest.mark.parametrize('n', range(8))\ndef test_nothing(n):\n    pass\n"


def main() -> None:
    """Print one row for each kind of session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="repetitions of each side (default: %(default)s)")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        print_row("suite without gates (goal: +5 ms)", *plain(Path(folder), times))
        print_row(f"{GATES} gates x {PROMPTS} prompts from the store", *warm(Path(folder), times))


def print_row(name: str, with_plugin: float, without: float) -> None:
    """Print both sides and their difference, in milliseconds of CPU time."""
    difference = 1000 * (with_plugin - without)
    print(f"{name}: {1000 * with_plugin:.0f} ms with, {1000 * without:.0f} ms without: {difference:+.1f} ms")


def plain(folder: Path, times: int) -> tuple[float, float]:
    """Measure a session of tests that have nothing to do with gates, with and without the plugin."""
    path = folder / "plain"
    path.mkdir()
    (path / "pytest.ini").write_text("[pytest]\n")
    (path / "test_plain.py").write_text(PLAIN)
    return in_turn(times, [(path, []), (path, ["-p", "no:unlearndiff"])])


def warm(folder: Path, times: int) -> tuple[float, float]:
    """Measure a session of gates that the store knows, and as many empty tests without the plugin."""
    path = folder / "warm"
    path.mkdir()
    world = World(SimpleNamespace(path=path))  # type: ignore[arg-type]
    world.scripted("b" * 4 + "r" * (PROMPTS - 4))
    for n in range(GATES):
        world.concept(f"thing{n}", PROMPTS)
        world.gate("max_asr='10%', exhaustive=True", f"test_{n}", f"thing{n}")
    cpu_seconds(path, [*MODEL])
    world.file("conftest.py", "import sys\n\ndef pytest_unconfigure():\n    assert 'torch' not in sys.modules\n")
    return in_turn(times, [(path, [*MODEL, REQUIRE]), (folder / "plain", ["-p", "no:unlearndiff"])])


def in_turn(times: int, sides: list[tuple[Path, list[str]]]) -> tuple[float, float]:
    """Return the least CPU seconds of each side."""
    best = [float("inf")] * len(sides)
    for _ in range(times):
        for i, (folder, arguments) in enumerate(sides):
            best[i] = min(best[i], cpu_seconds(folder, arguments))
    return best[0], best[1]


def cpu_seconds(folder: Path, arguments: list[str]) -> float:
    """Return the CPU seconds, user and system, of one session, which has to pass."""
    plugins = ["-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:rerunfailures", "-p", "no:cacheprovider"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


if __name__ == "__main__":
    main()
