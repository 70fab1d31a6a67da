"""Measure the structure of the package: size, import circles, imports inside functions, files a prompt passes.

Run in ``tests/``: ``python -m benchmark.architecture``; ``--trace`` adds the figures that need a real (small) attack.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pytest_unlearndiff"
EMOJI = ROOT / "examples" / "emoji"

Graph = dict[str, set[str]]
"""Modules by name, each with the modules it imports."""

_TRACER = """
import json, os, sys, threading
from pathlib import Path

entered = set()

def note(frame, event, argument):
    if event == "call" and "pytest_unlearndiff" in frame.f_code.co_filename and frame.f_code.co_name != "<module>":
        entered.add(frame.f_code.co_filename)

sys.setprofile(note)
threading.setprofile(note)

def pytest_unconfigure(config):
    sys.setprofile(None)
    Path(os.environ["ENTERED"]).write_text(json.dumps(sorted(entered)))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", action="store_true", help="attack two prompts of the emoji model and count files")
    arguments = parser.parse_args()
    rows = static_figures()
    if arguments.trace:
        rows |= traced_figures()
    print("| figure | value |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def static_figures() -> dict[str, str]:
    """Figures that follow from the source text."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    tests = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py"))
    ray = [path for path in files if path.parent.name == "workers"]
    lengths = [length for path in files for length in function_lengths(path)]
    return {
        "files of the package": str(len(files)),
        "lines of the package": f"{lines:,}",
        "mean lines of a function": f"{sum(lengths) / len(lengths):.1f}",
        "import circles, type hints included": str(len(circles(import_graph()))),
        "imports inside functions": str(sum(len(list(nested_imports(path))) for path in files)),
        "lines of tests": f"{tests:,}",
        "lines of Ray code": str(sum(len(path.read_text(encoding="utf-8").splitlines()) for path in ray)),
    }


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


def traced_figures() -> dict[str, str]:
    """Files of the package in which code runs, from a gate's start to its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "entered.py").write_text(_TRACER, encoding="utf-8")
        cold, warm = (entered_files(Path(folder)) for _ in range(2))
    return {
        "files one prompt passes, cold": str(len(cold)),
        "files one prompt passes, warm": str(len(warm)),
        "files from --unlearndiff-model to the network": str(len(cold & model_files(cold))),
    }


def model_files(files: set[str]) -> set[str]:
    """Those of the files that find, read or load models."""
    return {file for file in files if re.search(r"/(models|sources)/", file)}


def entered_files(folder: Path) -> set[str]:
    """Run one gate on the emoji model and return the files that functions ran in."""
    import json

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
