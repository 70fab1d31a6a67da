"""Plant random faults in a copy of the package, one at a time, and list those that its tests do not notice.

Run in ``tests/`` with the dependency group ``mutation``: ``python -m benchmark.mutation core store --count 40``.
Faults are cosmic-ray's (https://cosmic-ray.readthedocs.io): comparisons, arithmetic, booleans, numbers, loops,
exceptions. A fault in ``pytest_unlearndiff/FOLDER`` has to make ``tests/FOLDER`` or ``tests/contracts`` fail.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[2]

# Bitwise "or" is nearly always a type hint here, a removed decorator nearly always an error at import.
LEFT_OUT = ("core/VariableInserter", "core/VariableReplacer", "core/RemoveDecorator")
TIMEOUT = 600.0
"""Seconds that the tests of one fault may take; a fault that takes longer counts as noticed."""


def main() -> int:
    """Plant the faults, print one line per fault and the diff of each survivor; return 1 where one survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="folders of the package, such as core")
    parser.add_argument("--count", type=int, default=40, help="faults to plant (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of their choice (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".git", ".tox", "*_cache", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
        faults = list(candidates(copy, arguments.folders))
        chosen = random.Random(arguments.seed).sample(faults, min(arguments.count, len(faults)))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        survivors = [diff for fault in chosen if (diff := survives(fault, copy)) is not None]
    for diff in survivors:
        print(diff)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults noticed (seed {arguments.seed}, of {len(faults)})")
    return 1 if survivors else 0


def candidates(checkout: Path, folders: list[str]) -> Iterator[MutationSpec]:
    """Yield one fault per place in the code of these folders that some operator can change."""
    generator = random.Random(0)
    for path in sorted(path for name in folders for path in (checkout / "pytest_unlearndiff" / name).rglob("*.py")):
        places: dict[tuple[int, int], list[MutationSpec]] = {}
        nodes = list(ast_nodes(get_ast_from_path(path)))
        for name in operator_names():
            if name.startswith(LEFT_OUT) or "BitOr" in name or get_operator(name).arguments():
                continue
            positions = [span for node in nodes for span in get_operator(name)().mutation_positions(node)]
            for occurrence, (start, end) in enumerate(positions):
                fault = MutationSpec(str(path), name, occurrence, start, end, operator_args={})
                places.setdefault(start, []).append(fault)
        yield from (generator.choice(faults) for _, faults in sorted(places.items()))


def survives(fault: MutationSpec, checkout: Path) -> str | None:
    """Run the tests of the fault's folder on the changed code.

    Returns:
        The change as a diff where all tests still pass; None where one fails.
    """
    place = Path(fault.module_path).relative_to(checkout)
    tests = [path for path in (f"tests/{place.parts[1]}", "tests/contracts") if (checkout / path).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    started = time.monotonic()
    result = mutate_and_test([fault], shlex.join(command), TIMEOUT)
    survived = result.test_outcome == TestOutcome.SURVIVED
    line = f"{place}:{fault.start_pos[0]} {fault.operator_name}"
    print(f"{'SURVIVED' if survived else 'noticed'} {line} ({time.monotonic() - started:.0f} s)", flush=True)
    return result.diff if survived else None


if __name__ == "__main__":
    sys.exit(main())
