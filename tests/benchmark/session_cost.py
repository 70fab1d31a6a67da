"""What the plugin costs a session that attacks nothing: its import, and gates that the store answers.

Run from the project's folder: ``python tests/benchmark/session_cost.py``. Each figure is the least of several, taken in
processes of their own, the two sides in turn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support")]

from worlds import MODEL, REQUIRE, World  # noqa: E402

GATES, PROMPTS = 8, 50
PLAIN = "import pytest\n\n\n@pytest.mark.parametrize('n', range(8))\ndef test_nothing(n):\n    pass\n"


def main() -> None:
    """Print both costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="how often each side is run (default: %(default)s)")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        print_row("import, a suite without gates", *imports(Path(folder), times))
        print_row(f"{GATES} gates x {PROMPTS} prompts from the store", *warm(Path(folder), times))


def print_row(what: str, with_plugin: float, without: float) -> None:
    """One line: both sides, difference and ratio."""
    difference = 1000 * (with_plugin - without)
    print(
        f"{what}: {with_plugin:.3f} s with, {without:.3f} s without: {difference:+.0f} ms, x{with_plugin / without:.2f}"
    )


def imports(folder: Path, times: int) -> tuple[float, float]:
    """Seconds of a session of tests that have nothing to do with gates, with and without the plugin."""
    plain = folder / "plain"
    plain.mkdir()
    (plain / "pytest.ini").write_text("[pytest]\n")
    (plain / "test_plain.py").write_text(PLAIN)
    return in_turn(times, [(plain, []), (plain, ["-p", "no:unlearndiff"])])


def warm(folder: Path, times: int) -> tuple[float, float]:
    """Seconds of a session of gates that the store knows, and of as many empty tests without the plugin."""
    path = folder / "warm"
    path.mkdir()
    world = World(SimpleNamespace(path=path))  # type: ignore[arg-type]
    world.scripted("b" * 4 + "r" * (PROMPTS - 4))
    for n in range(GATES):
        world.concept(f"thing{n}", PROMPTS)
        world.gate("max_asr='10%', exhaustive=True", f"test_{n}", f"thing{n}")
    seconds(path, [*MODEL])
    world.file("conftest.py", "import sys\n\ndef pytest_unconfigure():\n    assert 'torch' not in sys.modules\n")
    return in_turn(times, [(path, [*MODEL, REQUIRE]), (folder / "plain", ["-p", "no:unlearndiff"])])


def in_turn(times: int, sides: list[tuple[Path, list[str]]]) -> tuple[float, float]:
    """The least seconds of each side."""
    best = [float("inf")] * len(sides)
    for _ in range(times):
        for i, (folder, arguments) in enumerate(sides):
            best[i] = min(best[i], seconds(folder, arguments))
    return best[0], best[1]


def seconds(folder: Path, arguments: list[str]) -> float:
    """Seconds of one session, which has to pass."""
    quiet = ["-q", "-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:rerunfailures", "-p", "no:cacheprovider"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
