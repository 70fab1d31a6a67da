"""Files that are sent arrive whole, once a machine, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import prompts

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.judge_options import weights_of, with_weights
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.sources.judge_files import judge_weights
from pytest_unlearndiff.store.hashing import Fingerprints
from pytest_unlearndiff.workers import shipping
from pytest_unlearndiff.workers.shipping import arrive, files_of, pieces
from pytest_unlearndiff.workers.worker import JobSpec, Worker


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there"))
    monkeypatch.setattr(shipping, "PIECE", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder with what counts and what does not."""
    files = {"unet/a.bin": "0123456789", "unet/b.bin": "", "index.json": "{}", "README.md": "no", ".git/x": "no"}
    for name, text in files.items():
        path = tmp_path / "here" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "here" / "model"


def test_a_folder_arrives_with_all_that_counts(folder: Path) -> None:
    assert max(len(piece) for _, piece in pieces(folder)) == 3
    digest = Fingerprints().of(folder)
    there = arrive("model", digest, pieces(folder))
    assert there.name == "model"
    assert Fingerprints().of(there) == digest
    names = sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file())
    assert names == ["index.json", "unet/a.bin", "unet/b.bin"]


def test_a_file_keeps_its_name(folder: Path) -> None:
    file = folder / "unet" / "a.bin"
    there = arrive("a.bin", Fingerprints().of(file), pieces(file))
    assert there.name == "a.bin"
    assert there.read_text() == "0123456789"


def test_the_same_content_may_arrive_under_two_names(folder: Path) -> None:
    digest = Fingerprints().of(folder / "unet" / "a.bin")
    there = [arrive(name, digest, [(name, b"0123456789")]) for name in ("1.png", "2.png")]
    assert [path.name for path in there if path.exists()] == ["1.png", "2.png"]


def test_what_arrived_before_is_not_asked_for_again(folder: Path) -> None:
    def never() -> Iterator[tuple[str, bytes]]:
        raise AssertionError("it was asked for again")
        yield "", b""

    digest = Fingerprints().of(folder)
    assert arrive("model", digest, pieces(folder)) == arrive("model", digest, never())


def test_what_arrives_as_something_else_is_refused_and_not_kept(folder: Path) -> None:
    digest = Fingerprints().of(folder)
    torn = list(pieces(folder))[:-1]
    with pytest.raises(ModelError, match=rf"model arrived as something else \(fingerprint \w+, sent {digest}\)"):
        arrive("model", digest, torn)
    assert arrive("model", digest, pieces(folder)).exists()


def test_what_was_changed_where_it_is_kept_is_refused(folder: Path) -> None:
    digest = Fingerprints().of(folder)
    (arrive("model", digest, pieces(folder)) / "index.json").write_text("[]")
    with pytest.raises(ModelError, match="model arrived as something else"):
        arrive("model", digest, [])


@pytest.mark.parametrize("name", ["../x", "/etc/x", "model/../../x"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no name inside a folder"):
        arrive("model", "0" * 16, [(name, b"x")])


def test_a_folder_that_others_can_write_is_not_used(folder: Path) -> None:
    there = arrive("model", Fingerprints().of(folder), pieces(folder))
    there.parent.parent.chmod(0o777)
    with pytest.raises(ModelError, match="is open to others: remove it"):
        arrive("model", Fingerprints().of(folder), pieces(folder))


def test_judges_in_judges_are_found_wherever_their_weights_lie() -> None:
    inner = {"kind": "image-classifier", "model": "/a", "label": "church"}
    judge = JudgeConfig("any-of", {"judges": [inner, {"kind": "nudenet"}]})
    assert weights_of(judge) == ("/a",)
    moved = with_weights(judge, {"/a": "/b"})
    assert weights_of(moved) == ("/b",)
    assert moved.options["judges"][0]["label"] == "church"


def test_a_bench_says_what_it_lacks_and_works_with_what_it_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine gets the places of this machine; nothing is loaded before they are known."""
    here, loaded = tmp_path / "here", []
    here.mkdir()
    for name in ("victim.pt", "base.pt", "judge.bin", "target.png"):
        (here / name).write_text(name)
    source = ModelSpec(here / "victim.pt", here / "base.pt")
    judge = JudgeConfig("image-classifier", {"model": str(here / "judge.bin"), "label": "church"})
    known = Fingerprints()
    images = {prompts(1)[0].digest: str(here / "target.png")}
    concept = Concept("church", prompts(2), judge, images=images)
    fingerprint = Fingerprint.of(source, known, images)
    campaign = Campaign(concept, AttackConfig(), fingerprint, judge_weights(judge, known))
    order = JobSpec(campaign, source, batch_size=1, files=files_of(source, concept, known))
    (here).rename(tmp_path / "gone")

    class Engine:
        batch_size = 1

        def serve(self, arrived: object) -> Iterator[None]:
            yield None

    def engine(self: Campaign, source: ModelSpec, *parts: object) -> tuple[Engine, dict[str, str]]:
        loaded.append((source.model, source.base, self.concept.judge.options["model"], *self.concept.images.values()))
        return Engine(), {}

    monkeypatch.setattr(Campaign, "engine", engine)
    bench = Worker()
    assert {path.name for path in bench.open(order).lacks} == {"victim.pt", "base.pt", "judge.bin", "target.png"}
    assert not loaded
    places = {}
    for path, digest in order.files.items():
        places[path.name] = arrive(path.name, digest, pieces(tmp_path / "gone" / path.name))
        bench.arrived(path, digest, places[path.name])
    assert bench.open(order).lacks == ()
    moved = (places["victim.pt"], places["base.pt"], str(places["judge.bin"]), str(places["target.png"]))
    assert loaded == [moved]
    changed = replace(order, files={**order.files, here / "base.pt": "another"})
    assert bench.open(changed).lacks == [here / "base.pt"], "what was sent once is not what is asked for now"
