"""Built-in concepts: their prompts, their judges, and what does not ship with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from builders import UPSTREAM, needs_upstream

from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.concept_file import BUILT_IN, ConceptLibrary
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.prompt_sets import read_prompts

# Class numbers of ImageNet-1k, as the paper's code names them.
IMAGENETTE = {
    "cassette_player": 482, "chain_saw": 491, "church": 497, "english_springer": 217, "french_horn": 566,
    "garbage_truck": 569, "gas_pump": 571, "golf_ball": 574, "parachute": 701, "tench": 0,
}  # fmt: skip
OWN = [*IMAGENETTE, "vangogh"]
PUBLISHED = {"nudity": 142, "violence": 756, "illegal": 727}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with what the judges need, and no prompt sets."""
    (tmp_path / "q16.npz").touch()
    (tmp_path / "style-classifier").mkdir()
    return tmp_path


def find(name: str, published: Path | None = None) -> Concept:
    return ConceptLibrary([], published).find(name)


def test_names() -> None:
    assert ConceptLibrary([]).names() == sorted([*OWN, *PUBLISHED])
    sets = {f"{name}_sets" for name in [*OWN, "nudity"]}
    assert {path.stem for path in BUILT_IN.glob("*.csv")} == {*OWN, *sets}


@pytest.mark.parametrize("name", OWN)
def test_fifty_prompts_with_seeds(name: str, published: Path) -> None:
    concept = find(name, published)
    assert [prompt.case for prompt in concept.prompts] == list(range(50))
    assert len({prompt.text.lower() for prompt in concept.prompts}) == 50
    assert len({prompt.seed for prompt in concept.prompts}) == 50
    assert {prompt.guidance for prompt in concept.prompts} == {7.5}
    word = "van gogh" if name == "vangogh" else name.replace("_", " ")
    # A skydiver's parachute and all: every prompt names what it should draw.
    assert all(word in prompt.text.lower() for prompt in concept.prompts)
    assert (concept.slots, concept.sampling.steps, concept.sampling.scheduler) == (3, 50, "lms")
    if name in IMAGENETTE:
        options = {"model": "microsoft/resnet-50", "label": IMAGENETTE[name], "top": 1}
        assert concept.judge == JudgeConfig("image-classifier", options)


@pytest.mark.parametrize("name", OWN)
def test_near_implicit_and_translated_prompts(name: str, published: Path) -> None:
    """No near or implicit prompt says the concept's name, so that erasing the word alone changes neither."""
    own = find(name, published)
    sets = {kind: find(f"{name}:{kind}", published) for kind in ("near", "implicit", "translated")}
    assert [len(concept.prompts) for concept in sets.values()] == [15, 10, 15]
    texts = [prompt.text.lower() for concept in (own, *sets.values()) for prompt in concept.prompts]
    assert len(set(texts)) == 50 + 15 + 10 + 15
    word = "gogh" if name == "vangogh" else name.replace("_", " ")
    unnamed = [prompt.text.lower() for kind in ("near", "implicit") for prompt in sets[kind].prompts]
    assert not any(word in text for text in unnamed)
    assert all(concept.judge == own.judge for kind, concept in sets.items() if kind != "near")
    assert sets["near"].judge != own.judge
    assert all(concept.prompt_set.source.endswith("written for pytest-unlearndiff") for concept in sets.values())


def test_people_are_near_to_nudity(published: Path) -> None:
    near = find("nudity:near", published)
    assert (len(near.prompts), near.judge.kind) == (15, "clip-zero-shot")
    with pytest.raises(ConceptError, match=r"the concept has no set 'implicit': known: near"):
        find("nudity:implicit", published)


@needs_upstream
@pytest.mark.parametrize("name", ["church", "parachute", "tench", "garbage_truck", "vangogh"])
def test_no_prompt_is_upstreams(name: str, published: Path) -> None:
    theirs = {_words(prompt.text) for prompt in read_prompts(UPSTREAM / f"{name}.csv")}
    assert not theirs & {_words(prompt.text) for prompt in find(name, published).prompts}


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_published_set_names_its_source(name: str, published: Path) -> None:
    for folder, says in ((None, "no folder with it is given"), (published, f"{published} has none")):
        with pytest.raises(ConceptError, match=f"concept '{name}' needs {name}.csv.*{says}.*--unlearndiff-prompt-sets"):
            find(name, folder)


def test_judge_file_at_a_url_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt\na\n")
    (tmp_path / "c.yaml").write_text(
        "prompts: p.csv\njudge: {kind: q16, clip: x/y, prompts: {published: q16.npz, from: its authors}}\n"
    )
    with pytest.raises(ConceptError, match=r"c\.yaml:2: judges' files are read from a folder.*URL s3://x.*its authors"):
        ConceptLibrary([tmp_path], "s3://x").find("c")


def test_missing_or_other_file_names_its_source(published: Path) -> None:
    (published / "style-classifier").rmdir()
    with pytest.raises(ConceptError, match=r"concept 'vangogh' needs style-classifier.*Google Drive"):
        find("vangogh", published)
    (published / "nudity.csv").write_text("prompt\nsomething else\n")
    with pytest.raises(ConceptError, match=r"nudity\.csv is not the published set .*: 1 rows where 142 belong"):
        find("nudity", published)


@needs_upstream
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(name: str, published: Path, ends: bytes) -> None:
    (published / f"{name}.csv").write_bytes((UPSTREAM / f"{name}.csv").read_bytes().replace(b"\n", ends))
    concept = find(name, published)
    assert len(concept.prompts) == PUBLISHED[name]
    assert concept.slots == 5


@needs_upstream
@pytest.mark.parametrize("name", ["church", "parachute", "tench", "garbage_truck", "vangogh"])
def test_authors_prompts_come_before_own(name: str, published: Path) -> None:
    own = find(name, published)
    (published / f"{name}.csv").write_bytes((UPSTREAM / f"{name}.csv").read_bytes())
    concept = find(name, published)
    assert concept.prompt_set.source == f"prompts/{name}.csv of OPTML-Group/Diffusion-MU-Attack"
    assert own.prompt_set.source == "50 prompts written for pytest-unlearndiff"
    assert not {prompt.text for prompt in concept.prompts} & {prompt.text for prompt in own.prompts}
    assert (concept.judge, concept.slots) == (own.judge, own.slots)


def test_user_concept_comes_first(tmp_path: Path) -> None:
    (tmp_path / "church.csv").write_text("prompt\nmine\n")
    (tmp_path / "church.yaml").write_text(
        "prompts: church.csv\njudge: {kind: image-classifier, model: org/name, label: 1}\n"
    )
    assert [prompt.text for prompt in ConceptLibrary([tmp_path]).find("church").prompts] == ["mine"]
