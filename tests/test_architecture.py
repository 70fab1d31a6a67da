"""The house stands: floors are kept, and a session that attacks nothing pays for no model library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pytest_unlearndiff"
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
LIGHT_ROOMS = ("core", "store", "sources", "runs", "workers", "reports", "cli", "plugin")
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


def modules(room: str) -> list[str]:
    paths = sorted((PACKAGE / room).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def test_a_room_imports_only_from_floors_below_it() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    linted = run("-c", command, "--config", str(ROOT / "pyproject.toml"), "--no-cache")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", linted.stdout)
    assert kept is not None
    assert int(kept[1]) >= 1


def test_every_room_stands_on_a_floor() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.importlinter.contracts]]", 1)[1]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(re.findall(r"pytest_unlearndiff\.(\w+)", contract))


@pytest.mark.parametrize("module", ["pytest_unlearndiff", "pytest_unlearndiff.plugin.hooks"])
def test_pytests_own_start_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = run("-c", code)
    assert loaded.returncode == 0, loaded.stderr
    names = set(json.loads(loaded.stdout))
    assert module in names
    assert names.isdisjoint({*HEAVY, "PIL"})


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_floors_import_where_no_model_library_is_installed(room: str) -> None:
    found = modules(room)
    assert len(found) > 1
    imported = run("-c", IMPORT_WITHOUT, *found)
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout) == {}


def test_every_public_name_is_found() -> None:
    code = (
        "import pytest_unlearndiff as p; "
        "missing = [n for n in p.__all__ if getattr(p, n, None) is None]; assert not missing, missing; "
        "assert 'Gate' in p.__all__"
    )
    found = run("-c", code)
    assert found.returncode == 0, found.stderr
