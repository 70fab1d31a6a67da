"""Judge models: those on this machine need no network, and what is nowhere is told before everything is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_unlearndiff.judges import pretrained as room
from pytest_unlearndiff.judges.pretrained import pretrained


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
    monkeypatch.setattr(room, "hf_hub_download", lambda *words: asked.append(words))
    return asked


def test_what_is_here_is_not_asked_for(asked: list[tuple[str, str]]) -> None:
    part = Part({"a/b"}, {"a/b"})
    assert pretrained(part, "a/b", dtype="x") == ("a/b", {"dtype": "x"})
    assert (part.asked, asked) == ([True], [])


def test_what_is_not_here_comes_from_the_hub(asked: list[tuple[str, str]]) -> None:
    part = Part(set(), {"a/b"})
    assert pretrained(part, "a/b", dtype="x") == ("a/b", {"dtype": "x"})
    assert (part.asked, asked) == ([True, False], [("a/b", "config.json")])


def test_where_the_hub_is_out_of_reach_one_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*words: str) -> None:
        raise FileNotFoundError("check your connection")

    monkeypatch.setattr(room, "hf_hub_download", unreachable)
    part = Part(set(), set())
    with pytest.raises(OSError, match="check your connection"):
        pretrained(part, "a/b")
    assert part.asked == [True]


def test_a_folder_is_never_looked_for_on_the_hub(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    with pytest.raises(OSError, match=f"no {tmp_path}"):
        pretrained(Part(set(), {str(tmp_path)}), str(tmp_path))
    assert asked == []
