"""One real campaign with one and with two workers of one thread each: ``python -m benchmark.two_workers`` in ``tests``.

A session of its own attacks the same prompts for each row, without a store. The gate's seconds begin when its workers
are started, so starting Ray and loading models is in them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .contenders import EMOJI, provenance

GATE = """
import pytest

@pytest.mark.unlearndiff({concept!r}, max_asr="100%", exhaustive=True, prompts={prompts})
def test_gate(unlearndiff_attack):
    unlearndiff_attack()
"""


def session(folder: Path, victim: str, concept: str, prompts: int, workers: int) -> Mapping[str, Any]:
    """The JSON report of a session, and its seconds from start to end."""
    (folder / "test_gate.py").write_text(GATE.format(concept=concept, prompts=prompts))
    (folder / "pytest.ini").write_text("[pytest]\n")
    report = folder / "report.json"
    started = time.monotonic()
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"),
        f"--unlearndiff-model={EMOJI / 'erased' / victim}",
        f"--unlearndiff-base={EMOJI / 'model'}",
        f"--unlearndiff-concepts={EMOJI / 'concepts'}",
        "--unlearndiff-cache=off",
        f"--unlearndiff-report=json:{report}",
        *([f"--unlearndiff-workers={workers}"] if workers else []),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {**json.loads(report.read_text()), "seconds": time.monotonic() - started}


def row(name: str, seconds: float, gate: float, alone: float | None, same: bool | None) -> str:
    """One line of the table."""
    ratio = f"{alone / gate:.2f}" if alone is not None else ""
    told = "" if same is None else "yes" if same else "NO"
    return f"| {name} | {gate:.0f} | {seconds:.0f} | {ratio} | {told} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", default="uce-church.safetensors", help="a name in erased/")
    parser.add_argument("--concept", default="church")
    parser.add_argument("--prompts", type=int, default=20)
    args = parser.parse_args()
    print(*(f"{name}: {value}" for name, value in provenance().items()), "", sep="\n")
    print("| workers | seconds of the gate | of the session | times as fast as one | outcomes as in the first row |")
    print("|---|---|---|---|---|")
    first: Any = None
    alone: float | None = None
    for workers in (0, 1, 2):
        with TemporaryDirectory() as folder:
            found = session(Path(folder), args.victim, args.concept, args.prompts, workers)
        (gate,), (spent,) = found["gates"], found["run"]["gates"]
        same = None if first is None else gate["prompts"] == first
        first = gate["prompts"] if first is None else first
        name = str(workers) if workers else "none: the session's own process"
        print(row(name, found["seconds"], spent["seconds"], alone, same), flush=True)
        alone = spent["seconds"] if workers == 1 else alone


if __name__ == "__main__":
    main()
