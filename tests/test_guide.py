"""The guide's pages hold: examples, names, links, messages, and what is generated from the code."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pages
import pytest
import yaml

import pytest_unlearndiff
from pytest_unlearndiff.__main__ import COMMANDS
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.plugin.markers import ATTACK, RETENTION
from pytest_unlearndiff.plugin.options import OPTIONS
from pytest_unlearndiff.plugin.quality_marker import QUALITY
from pytest_unlearndiff.plugin.suites import SUITES

GUIDE = Path(__file__).resolve().parents[1] / "examples" / "guide"
DOCS = GUIDE / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PACKAGE = Path(pytest_unlearndiff.__file__).parent


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The hook of MkDocs, which needs no MkDocs."""
    spec = spec_from_file_location("guide_reference", GUIDE / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_examples_and_links_hold(path: Path) -> None:
    assert pages.problems(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["release_gate", "custom_concept"])
def test_examples_and_links_of_projects_hold(name: str) -> None:
    path = GUIDE.parent / name / "README.md"
    assert pages.problems(path, path.read_text(encoding="utf-8")) == []


def test_every_page_is_in_the_navigation() -> None:
    text = (GUIDE / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"[\w/]+\.md", str(yaml.safe_load(text)["nav"]))
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in PAGES)


def test_reference_is_filled_in_from_the_code(reference: ModuleType) -> None:
    filled = {path.stem: reference.fill_in(path.read_text(encoding="utf-8")) for path in PAGES}
    assert not [name for name, text in filled.items() if "<!-- generated" in text]
    rows = registry()
    named = {
        "options": [option.flag for option in OPTIONS],
        "gates": [*ATTACK.keywords, *RETENTION.keywords, *QUALITY.keywords],
        "attacks": rows.attacks,
        "models": [*(family.title for family in rows.families.values()), *rows.formats, *rows.defenses],
        "concepts": rows.judges,
        "report": rows.reports,
        "paper": [f"`{task}` |" for task in SUITES["paper"].concepts],
        "commands": [command.name for command in COMMANDS],
        "api": [name for name in pytest_unlearndiff.__all__ if not name.startswith("_")],
    }
    assert [(page, name) for page, names in named.items() for name in names if name not in filled[page]] == []


def test_the_program_says_what_troubleshooting_quotes() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    code = re.sub(r"\"\s+f?\"", "", source)  # one text in pieces
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        title for title in re.findall(r"^## (.*)$", text, flags=re.MULTILINE) if title[0].islower() or "'" in title
    ]
    assert len(quoted) > 5
    assert [title for title in quoted if title not in code] == []
