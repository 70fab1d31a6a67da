"""Judge models: those on this machine need no network, and what is nowhere is told before everything is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from pytest_unlearndiff.judges import pretrained as module
from pytest_unlearndiff.judges.pretrained import load_pretrained


class Part:
    """A class of transformers, with what is on this machine and what the Hub has."""

    def __init__(self, here: set[str], hub: set[str]) -> None:
        self.here, self.hub, self.asked = here, hub, list[bool]()

    def from_pretrained(self, model: str, *, local_files_only: bool = False, **options: Any) -> Any:
        self.asked.append(local_files_only)
        if model not in (self.here if local_files_only else self.hub):
            raise OSError(f"no {model}")
        return model, options


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the Hub's client is asked for."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "hf_hub_download", lambda *words: asked.append(words))
    return asked


def test_local(asked: list[tuple[str, str]]) -> None:
    part = Part({"a/b"}, {"a/b"})
    assert load_pretrained(part, "a/b", dtype="x") == ("a/b", {"dtype": "x"})
    assert (part.asked, asked) == ([True], [])


def test_hub(asked: list[tuple[str, str]]) -> None:
    part = Part(set(), {"a/b"})
    assert load_pretrained(part, "a/b", dtype="x") == ("a/b", {"dtype": "x"})
    assert (part.asked, asked) == ([True, False], [("a/b", "config.json")])


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*words: str) -> None:
        raise LocalEntryNotFoundError("check your connection")

    monkeypatch.setattr(module, "hf_hub_download", unreachable)
    part = Part(set(), set())
    with pytest.raises(OSError, match="cannot be reached from here: hf download a/b"):
        load_pretrained(part, "a/b")
    assert part.asked == [True]


def test_folder(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    with pytest.raises(OSError, match=f"no {tmp_path}"):
        load_pretrained(Part(set(), {str(tmp_path)}), str(tmp_path))
    assert asked == []
