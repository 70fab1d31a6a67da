"""Content hashes of files and folders, and the memo that saves reading them again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
from pytest_unlearndiff.store.files import write_atomically
from pytest_unlearndiff.store.key import FileHash, Fingerprints, digest, stat_signature

SECOND = 10**9
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed, in order."""
    names: list[str] = []
    file_digest = hashlib.file_digest

    def counted(file: Any, algorithm: str) -> Any:
        names.append(Path(file.name).name)
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return names


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.bin").write_bytes(b"weights")
    return folder


def of(path: Path) -> str:
    return Fingerprints().of(path)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@dataclass
class Clock:
    """Seconds that fingerprints believe have passed since the test wrote its files."""

    seconds: int = 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, time_ns = Clock(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: time_ns() + clock.seconds * SECOND)
    return clock


@given(json_values, json_values)
def test_equal_values_have_equal_digests(left: Any, right: Any) -> None:
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (digest(left) == digest(right)) is same
    assert digest({"b": [1, 0.5], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,0.5]}'.encode()).hexdigest()[:16]


def test_file_hash_depends_on_content_alone(tmp_path: Path) -> None:
    for name, content in {"a.pt": b"weights", "b.safetensors": b"weights", "c.pt": b"Weights"}.items():
        write(tmp_path / name, content)
    (tmp_path / "link.pt").symlink_to(tmp_path / "a.pt")
    assert of(tmp_path / "a.pt") == of(tmp_path / "b.safetensors") == of(tmp_path / "link.pt")
    assert of(tmp_path / "a.pt") != of(tmp_path / "c.pt")


FOLDER_CHANGES: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "content": (lambda folder: write(folder / "unet" / "weights.bin", b"WEIGHTS"), True),
    "name": (lambda folder: (folder / "unet" / "weights.bin").rename(folder / "unet" / "other.bin"), True),
    "depth": (lambda folder: (folder / "unet" / "weights.bin").rename(folder / "weights.bin"), True),
    "addition": (lambda folder: write(folder / "adapter.bin", b""), True),
    "removal": (lambda folder: (folder / "model_index.json").unlink(), True),
    "documentation": (lambda folder: write(folder / "README.md", b"for people"), False),
    "license": (lambda folder: write(folder / "LICENSE", b"for people"), False),
    "dot-file": (lambda folder: write(folder / "unet" / ".hidden", b"for programs"), False),
    "link to itself": (lambda folder: (folder / "again").symlink_to(folder, target_is_directory=True), False),
}


@pytest.mark.parametrize("change", FOLDER_CHANGES)
@pytest.mark.parametrize("parent", [".", ".cache"])
def test_folder_hash_changes_with_what_it_computes(pipeline: Path, tmp_path: Path, change: str, parent: str) -> None:
    (tmp_path / parent).mkdir(exist_ok=True)
    before = of(pipeline)
    moved = pipeline.rename(tmp_path / parent / "moved")
    assert of(moved) == before
    happen, changes = FOLDER_CHANGES[change]
    happen(moved)
    assert (of(moved) != before) is changes


def test_links_count_as_their_targets(pipeline: Path, tmp_path: Path) -> None:
    """As in the Hub's cache."""
    before, weights = of(pipeline), pipeline / "unet" / "weights.bin"
    for content, same in ((b"weights", True), (b"erased", False)):
        weights.unlink()
        weights.symlink_to(write(tmp_path / f"blob-{same}", content))
        assert (of(pipeline) == before) is same
    shutil.copytree(pipeline / "unet", tmp_path / "unet")
    shutil.rmtree(pipeline / "unet")
    (pipeline / "unet").symlink_to(tmp_path / "unet")
    linked = of(pipeline)
    write(tmp_path / "unet" / "weights.bin", b"other")
    assert of(pipeline) != linked


def test_files_are_read_once(pipeline: Path, tmp_path: Path, reads: list[str], clock: Clock) -> None:
    memo = tmp_path / "memo.json"
    session = Fingerprints(memo)
    first = session.of(pipeline)
    assert sorted(reads) == ["model_index.json", "weights.bin"]
    assert session.of(pipeline) == first
    session.save()
    assert Fingerprints(memo).of(pipeline) == first
    assert len(reads) == 2


@pytest.mark.parametrize("replace", [shutil.copyfile, shutil.copy2, shutil.move])
def test_replaced_file_of_same_size_and_time_is_read(
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
    replace(other, weights)
    os.utime(weights, (10**9, 10**9))
    for fingerprints in (session, Fingerprints(memo)):
        assert fingerprints.of(pipeline) != first
    assert reads[2:] == ["weights.bin", "weights.bin"]


@pytest.mark.parametrize(
    ("mtime", "seconds", "again"),
    [*[(0, age, age < 3) for age in (0, 1, 3)], *[(-3600, age, age < 3) for age in (0, 3)], (3600, 3, True),
     (3600, 3605, False)],
)  # fmt: skip
def test_young_file_is_hashed_again(
    tmp_path: Path, reads: list[str], clock: Clock, mtime: int, seconds: int, again: bool
) -> None:
    """A file that replaced it within the resolution of times would look the same.

    ``mtime`` is relative to the change of the inode, which nobody can set.
    """
    memo, weights = tmp_path / "memo.json", write(tmp_path / "weights.bin", b"weights")
    if mtime:
        os.utime(weights, ns=(0, weights.stat().st_ctime_ns + mtime * SECOND))
    clock.seconds = seconds
    session = Fingerprints(memo)
    session.of(weights)
    assert session.unsaved is not again
    session.save()
    clock.seconds = seconds + 3600
    for fingerprints in (session, Fingerprints(memo)):
        fingerprints.of(weights)
    assert len(reads) == (3 if again else 1)
    assert session.unsaved is again


def test_hash_from_the_future_is_taken_again(tmp_path: Path, reads: list[str], clock: Clock) -> None:
    memo, weights = tmp_path / "memo.json", write(tmp_path / "weights.bin", b"weights")
    clock.seconds = 3600
    session = Fingerprints(memo)
    session.of(weights)
    session.save()
    clock.seconds = 10
    Fingerprints(memo).of(weights)
    assert len(reads) == 2


@pytest.mark.parametrize(("ctime_ns", "current"), [(10**18 + 1, True), (10**18, False)])
def test_change_time_in_whole_seconds_is_never_trusted(tmp_path: Path, ctime_ns: int, current: bool) -> None:
    """Mounted images keep such times, even when another image is mounted in their place."""
    real = write(tmp_path / "weights.bin", b"weights").stat()
    status: Any = SimpleNamespace(
        st_dev=real.st_dev, st_ino=real.st_ino, st_size=real.st_size, st_mtime_ns=ctime_ns, st_ctime_ns=ctime_ns
    )
    assert FileHash(stat_signature(status), "0" * 64, time.time_ns()).is_current(status) is current


def test_file_written_while_read_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, file_digest = write(tmp_path / "weights.bin", b"weights"), hashlib.file_digest

    def written_meanwhile(file: Any, algorithm: str) -> Any:
        with weights.open("ab") as other:
            other.write(b"more")
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", written_meanwhile)
    with pytest.raises(StoreError, match=r"weights\.bin cannot be fingerprinted: it changes as it is read"):
        of(weights)


def with_fields(memo: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"files": {name: {**entry, **changes} for name, entry in memo["files"].items()}}


MEMO_DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another schema": lambda memo: {name: entry["sha256"] for name, entry in memo["files"].items()},
    "no mapping": lambda memo: {"files": [*memo["files"].values()]},
    "no hex digits": lambda memo: with_fields(memo, sha256="x" * 64),
    "half a hash": lambda memo: with_fields(memo, sha256="a" * 32),
    "hash of another type": lambda memo: with_fields(memo, sha256=[]),
    "time of another type": lambda memo: with_fields(memo, at="1e99"),
    "state of another type": lambda memo: with_fields(memo, state=[1.0] * 5),
    "short state": lambda memo: with_fields(memo, state=[1]),
    "another field": lambda memo: with_fields(memo, colour="blue"),
    "list": lambda memo: [],
    "null": lambda memo: None,
}


@pytest.mark.parametrize("damage", MEMO_DAMAGE)
def test_damaged_memo_answers_nothing(
    pipeline: Path, tmp_path: Path, reads: list[str], clock: Clock, damage: str
) -> None:
    memo = tmp_path / "memo.json"
    session = Fingerprints(memo)
    first = session.of(pipeline)
    session.save()
    memo.write_text(json.dumps(MEMO_DAMAGE[damage](json.loads(memo.read_text()))))
    assert Fingerprints(memo).of(pipeline) == first
    assert len(reads) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10**5])
def test_unreadable_memo_is_forgotten(pipeline: Path, tmp_path: Path, content: bytes) -> None:
    assert Fingerprints(write(tmp_path / "memo.json", content)).of(pipeline) == of(pipeline)
    fingerprints = Fingerprints(tmp_path / "missing" / "memo.json")
    fingerprints.of(pipeline)
    fingerprints.save()
    assert not (tmp_path / "missing").exists()


@pytest.mark.timeout(10)
def test_missing_and_special_files_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, reason in {"pipe": "is not a regular file", "device": "is not a regular file", "gone": "No such"}.items():
        with pytest.raises(StoreError, match=rf"{name} cannot be fingerprinted: .*{reason}"):
            of(tmp_path / name)


def test_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memo.json"
    write_atomically(path, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
