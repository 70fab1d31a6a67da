"""Fingerprints follow content, not paths, and no file is read twice for nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.errors import StoreError
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.store.files import write_atomically
from pytest_unlearndiff.store.hashing import FileHash, Fingerprints, digest, stat_signature

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed, in order."""
    found: list[str] = []
    real = hashlib.file_digest

    def counted(file: Any, algorithm: str) -> Any:
        found.append(Path(file.name).name)
        return real(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return found


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.bin").write_bytes(b"weights")
    return folder


def of(path: Path) -> str:
    return Fingerprints().of(path)


@dataclass
class Clock:
    """The time as fingerprints see it: by default, ten seconds after a test has written its files."""

    later: int = 10 * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found, real = Clock(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + found.later)
    return found


@given(json_values, json_values)
def test_digests_are_equal_just_when_the_values_are(left: Any, right: Any) -> None:
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (digest(left) == digest(right)) is same


def test_the_digest_is_the_one_that_stores_on_disk_hold() -> None:
    assert digest({"b": [1, 0.5], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,0.5]}'.encode()).hexdigest()[:16]


def test_a_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "b.safetensors").write_bytes(b"weights")
    (tmp_path / "c.pt").write_bytes(b"Weights")
    (tmp_path / "link.pt").symlink_to(tmp_path / "a.pt")
    assert of(tmp_path / "a.pt") == of(tmp_path / "b.safetensors") == of(tmp_path / "link.pt")
    assert of(tmp_path / "a.pt") != of(tmp_path / "c.pt")


def test_a_moved_folder_is_the_same(pipeline: Path, tmp_path: Path) -> None:
    before = of(pipeline)
    assert of(pipeline.rename(tmp_path / "elsewhere")) == before


def change_weights(folder: Path) -> None:
    (folder / "unet" / "weights.bin").write_bytes(b"WEIGHTS")


def rename_inside(folder: Path) -> None:
    (folder / "unet" / "weights.bin").rename(folder / "unet" / "other.bin")


def move_inside(folder: Path) -> None:
    (folder / "unet" / "weights.bin").rename(folder / "weights.bin")


def add(folder: Path) -> None:
    (folder / "adapter.bin").write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize("change", [change_weights, rename_inside, move_inside, add, remove])
def test_what_can_change_a_folders_result_changes_it(pipeline: Path, change: Callable[[Path], None]) -> None:
    before = of(pipeline)
    change(pipeline)
    assert of(pipeline) != before


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", ".DS_Store", ".cache/part", "unet/.hidden", "LICENSE"])
def test_documentation_and_dot_files_do_not_count(pipeline: Path, name: str) -> None:
    before = of(pipeline)
    (pipeline / name).parent.mkdir(exist_ok=True)
    (pipeline / name).write_text("for people")
    assert of(pipeline) == before


def test_a_dot_in_the_folders_own_path_hides_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "model"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"one")
    before = of(folder)
    (folder / "weights.bin").write_bytes(b"other")
    assert of(folder) != before


def test_linked_files_count_by_their_content_as_in_the_hub_cache(pipeline: Path, tmp_path: Path) -> None:
    plain = of(pipeline)
    weights = pipeline / "unet" / "weights.bin"
    weights.unlink()
    weights.symlink_to(write(tmp_path / "blob", b"weights"))
    assert of(pipeline) == plain
    weights.unlink()
    weights.symlink_to(write(tmp_path / "other", b"erased"))
    assert of(pipeline) != plain


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_linked_component_folder_counts_by_its_content(pipeline: Path, tmp_path: Path) -> None:
    (pipeline / "unet").rename(tmp_path / "unet")
    (pipeline / "unet").symlink_to(tmp_path / "unet")
    before = of(pipeline)
    change_weights(pipeline)
    assert of(pipeline) != before


def test_a_file_is_read_once_a_session(pipeline: Path, reads: list[str], clock: Clock) -> None:
    fingerprints = Fingerprints()
    first = fingerprints.of(pipeline)
    assert sorted(reads) == ["model_index.json", "weights.bin"]
    assert fingerprints.of(pipeline) == first
    assert len(reads) == 2


def test_the_memo_spares_the_next_session_the_reading(
    pipeline: Path, tmp_path: Path, reads: list[str], clock: Clock
) -> None:
    memo = tmp_path / "memo.json"
    session = Fingerprints(memo)
    first = session.of(pipeline)
    session.save()
    assert Fingerprints(memo).of(pipeline) == first
    assert len(reads) == 2


def write_in_place(weights: Path, other: Path) -> None:
    weights.write_bytes(other.read_bytes())


def copy_with_times(weights: Path, other: Path) -> None:
    subprocess.run(["cp", "-p", other, weights], check=True)


def copy_in_python(weights: Path, other: Path) -> None:
    shutil.copy2(other, weights)


def move_over(weights: Path, other: Path) -> None:
    other.rename(weights)


@pytest.mark.parametrize("replace", [write_in_place, copy_with_times, copy_in_python, move_over])
def test_another_file_of_one_size_and_time_is_read(
    pipeline: Path, tmp_path: Path, reads: list[str], clock: Clock, replace: Callable[[Path, Path], None]
) -> None:
    """As UCE's files are all about one size, and archives give all of theirs one time."""
    memo, weights = tmp_path / "memo.json", pipeline / "unet" / "weights.bin"
    other = write(tmp_path / "other.bin", b"WEIGHTS")
    for path in (weights, other):
        os.utime(path, (10**9, 10**9))
    session = Fingerprints(memo)
    first = session.of(pipeline)
    session.save()
    assert len(reads) == 2
    replace(weights, other)
    os.utime(weights, (10**9, 10**9))
    for fingerprints in (session, Fingerprints(memo)):
        assert fingerprints.of(pipeline) != first
    assert reads[2:] == ["weights.bin", "weights.bin"]


def changed(ns: int) -> Callable[[Path], None]:
    """Set the time of the last change of content, as seen from that of the inode, which nobody can set."""

    def change(weights: Path) -> None:
        os.utime(weights, ns=(0, weights.stat().st_ctime_ns + ns))

    return change


SECOND = 10**9


@pytest.mark.parametrize(
    ("happens", "later", "again"),
    [
        (lambda _: None, 0, True),
        (lambda _: None, 1 * SECOND, True),
        (lambda _: None, 3 * SECOND, False),
        (changed(-3600 * SECOND), 0, True),
        (changed(-3600 * SECOND), 3 * SECOND, False),
        (changed(3600 * SECOND), 3 * SECOND, True),
        (changed(3600 * SECOND), 3605 * SECOND, False),
    ],
    ids=["just now", "a second ago", "3 seconds ago", "old, just touched", "old", "in the future", "was in the future"],
)
def test_a_file_that_was_young_when_it_was_hashed_is_hashed_again(
    tmp_path: Path, reads: list[str], clock: Clock, happens: Callable[[Path], None], later: int, again: bool
) -> None:
    """What replaced it within what the file system rounds times to would look the same."""
    memo, weights = tmp_path / "memo.json", write(tmp_path / "weights.bin", b"weights")
    happens(weights)
    clock.later = later
    session = Fingerprints(memo)
    session.of(weights)
    assert session.unsaved is not again
    session.save()
    clock.later = later + 3600 * SECOND
    for fingerprints in (session, Fingerprints(memo)):
        fingerprints.of(weights)
    assert len(reads) == (3 if again else 1)
    assert session.unsaved is again, "so that the next session need not read it again"


def test_a_hash_from_the_future_is_taken_again(tmp_path: Path, reads: list[str], clock: Clock) -> None:
    memo, weights = tmp_path / "memo.json", write(tmp_path / "weights.bin", b"weights")
    clock.later = 3600 * SECOND
    session = Fingerprints(memo)
    session.of(weights)
    session.save()
    clock.later = 10 * SECOND
    Fingerprints(memo).of(weights)
    assert len(reads) == 2


def test_where_times_of_change_are_in_whole_seconds_every_session_reads(tmp_path: Path) -> None:
    """As in images that are mounted, which keep them even when another image is mounted in their place."""
    weights = write(tmp_path / "weights.bin", b"weights")
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    fine = SimpleNamespace(**{name: getattr(weights.stat(), name) for name in fields} | {"st_ctime_ns": 10**18 + 1})
    coarse = SimpleNamespace(**vars(fine) | {"st_ctime_ns": 10**18})
    for found, answers in ((fine, True), (coarse, False)):
        found.st_mtime_ns = found.st_ctime_ns
        assert FileHash(stat_signature(found), "0" * 64, time.time_ns()).is_current(found) is answers


def test_a_file_that_is_written_as_it_is_read_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, real = write(tmp_path / "weights.bin", b"weights"), hashlib.file_digest

    def written_meanwhile(file: Any, algorithm: str) -> Any:
        with weights.open("ab") as other:
            other.write(b"more")
        return real(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", written_meanwhile)
    with pytest.raises(StoreError, match=r"weights\.bin cannot be fingerprinted: it changes as it is read"):
        of(weights)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another schema": lambda memo: {name: each["sha256"] for name, each in memo["files"].items()},
    "no mapping": lambda memo: {"files": [*memo["files"].values()]},
    "a hash that is none": lambda memo: each_with(memo, sha256="x" * 64),
    "half a hash": lambda memo: each_with(memo, sha256="a" * 32),
    "a hash of another type": lambda memo: each_with(memo, sha256=[]),
    "a time of another type": lambda memo: each_with(memo, at="1e99"),
    "a state of another type": lambda memo: each_with(memo, state=[1.0] * 5),
    "too short a state": lambda memo: each_with(memo, state=[1]),
    "a field more": lambda memo: each_with(memo, colour="blue"),
    "nested": lambda memo: each_with(memo, state=[[[[]]]]),
}


def each_with(memo: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"files": {name: {**each, **changes} for name, each in memo["files"].items()}}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_memo_answers_nothing(pipeline: Path, tmp_path: Path, clock: Clock, damage: str) -> None:
    memo = tmp_path / "memo.json"
    session = Fingerprints(memo)
    first = session.of(pipeline)
    session.save()
    memo.write_text(json.dumps(DAMAGE[damage](json.loads(memo.read_text()))))
    assert Fingerprints(memo).of(pipeline) == first


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b'{"a": [1]}', b'"text"', b"[" * 10**5])
def test_a_memo_that_is_no_json_object_is_forgotten(pipeline: Path, tmp_path: Path, content: bytes) -> None:
    memo = write(tmp_path / "memo.json", content)
    assert Fingerprints(memo).of(pipeline) == of(pipeline)


def test_a_memo_that_cannot_be_written_is_no_error(pipeline: Path, tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path / "no such folder" / "memo.json")
    fingerprints.of(pipeline)
    fingerprints.save()
    assert not (tmp_path / "no such folder").exists()


@pytest.mark.timeout(10)
def test_a_pipe_or_a_device_has_no_hash_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(StoreError, match=rf"{name} cannot be fingerprinted: .*{name} is not a regular file"):
            of(tmp_path / name)


def test_nothing_at_the_path_is_said_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone"):
        of(tmp_path / "gone")


def test_an_interrupted_write_leaves_the_old_content_and_no_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memo.json"
    write_atomically(path, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_links_to_itself_is_read_once(pipeline: Path) -> None:
    before = of(pipeline)
    (pipeline / "again").symlink_to(pipeline, target_is_directory=True)
    assert of(pipeline) == before


def test_what_a_base_drew_does_not_answer_for_a_copy_of_it(pipeline: Path) -> None:
    """Which has to be loaded to be found out."""
    source = ModelSpec(shutil.copytree(pipeline, pipeline.with_name("copy")), pipeline)
    victim, base = (Fingerprint.of(each, Fingerprints()) for each in (source, source.unerased))
    assert victim.victim != base.victim
    assert victim.target == base.target
    assert victim.victim == Fingerprint.of(ModelSpec(source.model), Fingerprints()).victim
