"""Layers and imports: each layer knows only those below it, and what attacks nothing imports no model library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark.architecture import PACKAGE, circles, import_graph, nested_imports

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "scipy",
    "yaml",
    "safetensors",
    "filelock",
    "jinja2",
    "fsspec",
    "ray",
)
LIGHT_LAYERS = ("core", "store", "sources", "runs", "workers", "reports", "cli", "plugin")
# Imports the modules it is given as if nothing heavy were installed, and prints those that cannot be.
IMPORT_WITHOUT = f"""
import importlib, json, sys
sys.modules.update(dict.fromkeys({HEAVY!r}))
failed = {{}}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def modules(layer: str) -> list[str]:
    paths = sorted((PACKAGE / layer).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def test_layers() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    linted = run("-c", command, "--config", str(ROOT / "pyproject.toml"), "--no-cache")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", linted.stdout)
    assert kept is not None
    assert int(kept[1]) >= 1


def test_every_folder_is_a_layer() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.importlinter.contracts]]", 1)[1]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(re.findall(r"pytest_unlearndiff\.(\w+)", contract))


@pytest.mark.parametrize("module", ["pytest_unlearndiff", "pytest_unlearndiff.plugin.hooks"])
def test_start_of_pytest_loads_no_model_library(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = run("-c", code)
    assert loaded.returncode == 0, loaded.stderr
    names = set(json.loads(loaded.stdout))
    assert module in names
    assert names.isdisjoint({*HEAVY, "PIL"})


@pytest.mark.parametrize("layer", LIGHT_LAYERS)
def test_light_layers_import_without_model_libraries(layer: str) -> None:
    found = modules(layer)
    assert len(found) > 1
    imported = run("-c", IMPORT_WITHOUT, *found)
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout) == {}


def test_public_names() -> None:
    code = (
        "import pytest_unlearndiff as p; "
        "missing = [n for n in p.__all__ if getattr(p, n, None) is None]; assert not missing, missing; "
        "assert 'Gate' in p.__all__"
    )
    found = run("-c", code)
    assert found.returncode == 0, found.stderr


def test_import_circles() -> None:
    """Imports for type hints and inside functions count."""
    assert circles(import_graph()) == []


def test_imports_inside_functions() -> None:
    assert sum(len(list(nested_imports(path))) for path in PACKAGE.rglob("*.py")) <= 78


def test_plugin_has_one_lazy_boundary() -> None:
    paths = [path for path in (PACKAGE / "plugin").glob("*.py") if list(nested_imports(path))]
    assert {path.name for path in paths} <= {"hooks.py", "settings.py"}
