"""Print the figures of the architecture beside their goals and those of the first house.

Run from the project's folder: ``python tests/benchmark/architecture.py``. Two prompts of the emoji model are attacked.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pytest_unlearndiff"
EMOJI = ROOT / "examples" / "emoji"

Graph = dict[str, set[str]]
"""Modules by name, each with the modules it imports."""

_TRACER = """
import inspect, json, os, sys, threading
from pathlib import Path

entered = set()

def note(frame, event, argument):
    # Bodies of modules and classes, and comprehensions in them, run on import whether or not a prompt passes.
    code = frame.f_code
    if event == "call" and "pytest_unlearndiff" in code.co_filename and code.co_flags & inspect.CO_OPTIMIZED:
        if not code.co_name.startswith("<") or code.co_name == "<lambda>":
            entered.add(code.co_filename)

sys.setprofile(note)
threading.setprofile(note)

def pytest_unconfigure(config):
    sys.setprofile(None)
    Path(os.environ["ENTERED"]).write_text(json.dumps(sorted(entered)))
"""


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: figure.
        first: value of the first house (commit 1332b78).
        goal: value to reach.
        measured: value now; empty where another command measures it.
        note: that command.
    """

    name: str
    first: str
    goal: str
    measured: str = ""
    note: str = ""

    def row(self) -> str:
        """Return the figure as a row of a Markdown table."""
        return f"| {self.name} | {self.first} | {self.goal} | {self.measured or self.note} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--static", action="store_true", help="leave out the figures that need an attack")
    arguments = parser.parse_args()
    print("| figure | first house | goal | now |\n|---|---|---|---|")
    for figure in [*static_figures(), *([] if arguments.static else traced_figures()), *ELSEWHERE]:
        print(figure.row())


ELSEWHERE = (
    Figure(
        "edits beside one new file for a new attack, judge, format, family, defence",
        "2 to 25",
        "1 registry row",
        note="`pytest tests/contracts`",
    ),
    Figure("tests: minutes on two cores", "17", "<= 7", note="`tox -e tests`"),
    Figure("outcomes of the golden campaigns", "-", "identical, token for token", note="`pytest tests/golden`"),
    Figure("start of pytest without gates: CPU time", "-", "<= 5 ms", note="`python tests/benchmark/session_cost.py`"),
)


def static_figures() -> list[Figure]:
    """Measure what follows from the source text."""
    files = sorted(PACKAGE.rglob("*.py"))
    lengths = [length for path in files for length in function_lengths(path)]
    nested = sum(len(list(nested_imports(path))) for path in files)
    workers = [path for path in files if path.parent.name == "workers"]
    return [
        Figure("files of the package", "183", "<= 110", str(len(files))),
        Figure("lines of the package", "19,270", "<= 13,500", f"{line_count(files):,}"),
        Figure("mean lines of a function", "6.9", "-", f"{sum(lengths) / len(lengths):.1f}"),
        Figure("import circles, type hints included", "4", "0", str(len(circles(import_graph())))),
        Figure("imports inside functions", "148", "<= 50", str(nested)),
        Figure("lines of tests", "20,764", "<= 12,000", f"{line_count((ROOT / 'tests').rglob('*.py')):,}"),
        Figure("lines of workers/ (Ray)", "1,378", "<= 500", f"{line_count(workers):,}"),
    ]


def line_count(paths: Iterable[Path]) -> int:
    """Count the lines of files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def module_name(path: Path) -> str:
    """Dotted name of a file of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> Graph:
    """Imports between modules of the package, those for type hints and inside functions included."""
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    return {name: set(imported_modules(path, name, modules)) - {name} for name, path in modules.items()}


def imported_modules(path: Path, name: str, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            target = f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source
            if target in modules:
                yield target


def circles(graph: Graph) -> list[set[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = set()
            while (last := stack.pop()) != node:
                component.add(last)
            components.append({*component, node})

    for node in graph:
        if node not in index:
            visit(node)
    return [component for component in components if len(component) > 1]


def nested_imports(path: Path) -> Iterator[ast.stmt]:
    """Import statements inside functions of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from (inner for inner in ast.walk(node) if isinstance(inner, (ast.Import, ast.ImportFrom)))


def function_lengths(path: Path) -> Iterator[int]:
    """Lines of every function's body, its docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def traced_figures() -> list[Figure]:
    """Count the files of the package in which code runs, from a gate's start to its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "entered.py").write_text(_TRACER, encoding="utf-8")
        cold, warm = (entered_files(Path(folder)) for _ in range(2))
    return [
        Figure("files one prompt passes, cold", "98", "<= 50", str(len(cold))),
        Figure("files one prompt passes, warm", "54", "<= 25", str(len(warm))),
        Figure("files from --unlearndiff-model to the network", "45", "<= 25", str(len(cold & model_files(cold)))),
    ]


def model_files(files: set[str]) -> set[str]:
    """Those of the files that find, read or load models."""
    return {file for file in files if re.search(r"/(models|sources)/", file)}


def entered_files(folder: Path) -> set[str]:
    """Run one gate on the emoji model and return the files that functions ran in."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "ENTERED": str(folder / "entered.json"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "entered", f"--rootdir={folder}", "--pyargs"),
        "pytest_unlearndiff.suite",
        f"--unlearndiff-model={EMOJI / 'erased' / 'uce-fish.safetensors'}",
        f"--unlearndiff-base={EMOJI / 'model'}",
        f"--unlearndiff-concepts={EMOJI / 'concepts'}",
        *("--unlearndiff-concept=fish", "--unlearndiff-prompts=2", "--unlearndiff-max-asr=100%"),
        *("--unlearndiff-exhaustive", "--unlearndiff-progress=off"),
    ]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return set(json.loads((folder / "entered.json").read_text()))


if __name__ == "__main__":
    main()
