"""Stores joined by a URL: only checked outcomes travel, nothing is lost, and failures are one clear error."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import fsspec
import pytest
from builders import key, outcome
from PIL import Image

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.errors import StoreError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.store.campaign_dir import CampaignDir, encode_metadata
from pytest_unlearndiff.store.journal import JournalLine, RejectedLines, Rejection, StoredOutcomes
from pytest_unlearndiff.store.remote import Remote
from pytest_unlearndiff.store.shared_store import SharedStore
from pytest_unlearndiff.store.store import Mode, Store
from pytest_unlearndiff.store.thumbnails import THUMBNAIL_BYTES, Thumbnails, make_thumbnail

NAME = f"church-{key().digest}"


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else f"file://{tmp_path / 'shared'}"


def test_outcomes_travel_between_machines(url: str, tmp_path: Path) -> None:
    stores = [SharedStore(tmp_path / name, url) for name in ("laptop", "cluster")]
    entries = [store.campaign("church", key()) for store in stores]
    for store, entry, prompt in zip(stores, entries, "ab", strict=True):
        store.append(entry, outcome(prompt, Status.HIT_UNDER_ATTACK))
        store.push(entry)
    for store, entry in zip(stores, entries, strict=True):
        assert set(store.outcomes(entry)[0]) == {"a", "b"}
    assert set(entries[0].outcomes()[0]) == {"a"}
    assert Remote(url).campaigns() == [NAME]


def lines(prompts: str) -> list[JournalLine]:
    """One resisted prompt a letter."""
    return [JournalLine(outcome(prompt, Status.RESISTED)) for prompt in prompts]


def cut_short(store: Store, error: BaseException) -> None:
    """A campaign that keeps one outcome, which is too soon to be shared, and then ends with this."""
    entry = store.campaign("church", key())
    with store.sharing(entry):
        store.append(entry, outcome("a", Status.HIT_UNDER_ATTACK))
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError()], ids=repr)
def test_interrupted_campaign_is_shared(url: str, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        cut_short(SharedStore(tmp_path, url), error)
    assert set(Remote(url).read(NAME).outcomes()[0]) == {"a"}


def test_unreachable_url_hides_no_interruption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cut_short(SharedStore(tmp_path, "nowhere://bucket"), KeyboardInterrupt())


def test_add_is_idempotent_and_skips_a_torn_line(url: str) -> None:
    remote = Remote(url)
    assert [remote.add(NAME, lines(prompts)) for prompts in ("a", "ab", "b")] == [1, 1, 0]
    assert list(remote.read(NAME).outcomes()[0]) == ["a", "b"]
    files, path = at(url, "journal.jsonl")
    files.pipe_file(path, files.cat_file(path) + b'{"schema": 2, "outcome": {"prompt": "x", "status": "resisted"}')
    assert remote.add(NAME, lines("c")) == 1
    assert remote.read(NAME).outcomes().outcomes.keys() == {"a", "b", "c"}
    assert remote.read(NAME).outcomes().rejected == RejectedLines({Rejection.DAMAGED: 1})


def test_missing_place_differs_from_empty(url: str) -> None:
    assert Remote(url).read(NAME).outcomes() == StoredOutcomes({})
    assert Remote(url).campaigns() is None
    files, root = fsspec.core.url_to_fs(url)
    files.makedirs(root)
    assert Remote(url).campaigns() == []


@pytest.mark.parametrize(
    ("url", "reason"), [("nowhere://bucket", "nowhere"), ("file:///dev/null/shared", "cannot be read")]
)
def test_unreachable_url_is_named(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        Remote(url).add(NAME, lines("a"))
    assert url in str(caught.value)


def test_missing_package_and_hostile_name_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not the name of a campaign"):
        CampaignDir(tmp_path, "../../etc-0123456789abcdef")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(StoreError, match="pip install fsspec"):
        Remote("s3://bucket").read(NAME).outcomes()


def test_outcomes_are_shared_while_a_campaign_runs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(url)
    store = SharedStore(tmp_path / "here", url)
    entry = store.campaign("church", key())
    store.create(entry, key())
    store.append(entry, outcome("a", Status.RESISTED))
    assert remote.read(entry.name).outcomes()[0] == {}, "a moment ago it was told last"
    monkeypatch.setattr("pytest_unlearndiff.store.remote._WRITE_INTERVAL_SECONDS", -1.0)
    store.append(entry, outcome("b", Status.RESISTED))
    assert set(remote.read(entry.name).outcomes()[0]) == {"a", "b"}


def at(url: str, name: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """A file of the campaign's there."""
    files, root = fsspec.core.url_to_fs(url)
    return files, f"{root}/campaigns/{NAME}/{name}"


def machine(folder: Path, url: str, mode: Mode = Mode.RW) -> tuple[Store, CampaignDir]:
    """A store of one machine, and its entry of the campaign."""
    store = SharedStore(folder, url, mode, keep_images=True)
    return store, store.campaign("church", key())


def attacked(folder: Path, url: str, *found: Outcome, mode: Mode = Mode.RW) -> None:
    """A session on a machine that finds these outcomes."""
    store, entry = machine(folder, url, mode)
    if mode.reads:
        store.outcomes(entry)
    store.create(entry, key())
    with store.lock(entry), store.sharing(entry):
        for each in found:
            store.append(entry, each)


IMAGE = make_thumbnail(Image.new("RGB", (64, 64), (255, 0, 0)))
assert IMAGE is not None


def test_key_metadata_and_thumbnails_travel(url: str, tmp_path: Path) -> None:
    """So that a machine that only reads knows what was attacked, and what it looked like."""
    attacked(tmp_path / "cluster", url, outcome("a" * 16, Status.HIT_UNDER_ATTACK))
    store, entry = machine(tmp_path / "cluster", url)
    store.write_metadata(entry, {"victim": "esd.pt", "changes": ["UNet"]})
    for digest, base in (("a" * 16, False), ("a" * 16, True), ("b" * 16, False)):
        Thumbnails(entry.folder).write(digest, IMAGE, base=base)
    store.push(entry)
    reader, theirs = machine(tmp_path / "laptop", url, Mode.REQUIRE)
    assert reader.metadata(theirs) == {"victim": "esd.pt", "changes": ["UNet"]}
    shown = reader.thumbnails("church", key().digest)
    assert [shown.read("a" * 16), shown.read("a" * 16, base=True), shown.read("c" * 16)] == [IMAGE, IMAGE, None]
    assert Remote(url).key(NAME) == json.loads(json.dumps(key().to_dict()))
    assert not (tmp_path / "laptop").exists()
    assert main(["pull", f"--cache-dir={tmp_path / 'pulled'}", url]) == 0
    pulled = Store(tmp_path / "pulled").campaign("church", key())
    assert pulled.metadata == {"victim": "esd.pt", "changes": ["UNet"]}
    assert pulled.key is not None
    assert len(Thumbnails(pulled.folder).files()) == 3


def test_metadata_is_written_once_unless_replaced(url: str) -> None:
    remote, kept = Remote(url), []
    for victim, replace in (("first", False), ("second", False), ("third", True)):
        content = encode_metadata({"victim": victim}, key().digest)
        remote.describe(NAME, None, content, replace=replace)
        kept.append(remote.metadata(NAME)["victim"])
    assert kept == ["first", "first", "third"]


def test_earlier_outcomes_are_pushed(url: str, tmp_path: Path) -> None:
    alone = Store(tmp_path / "cluster")
    entry = alone.campaign("church", key())
    alone.create(entry, key())
    alone.append(entry, outcome("a", Status.HIT_UNDER_ATTACK))
    for mode, there in ((Mode.RO, set[str]()), (Mode.RW, {"a"})):
        store, _ = machine(tmp_path / "cluster", url, mode)
        assert set(store.outcomes(entry).outcomes) == {"a"}
        assert store.push_pending() == ""
        assert set(Remote(url).read(NAME).outcomes().outcomes) == there


def test_failed_push_is_told_once(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'mounted' / 'shared'}"
    attacked(tmp_path / "cluster", f"file://{tmp_path / 'other'}", outcome("a", Status.HIT_UNDER_ATTACK))
    store, entry = machine(tmp_path / "cluster", url)
    assert set(store.outcomes(entry).outcomes) == {"a"}
    assert "what only this machine knows was not sent: the shared store" in (said := store.push_pending())
    assert f"there is no folder {tmp_path / 'mounted'}" in said
    assert store.push_pending() == ""


def test_agreeing_machines_are_both_right(url: str, tmp_path: Path) -> None:
    for name, seconds in (("laptop", 1.0), ("cluster", 2.0)):
        folder = tmp_path / name
        attacked(folder, f"memory://{uuid.uuid4()}", outcome("a", Status.RESISTED, seconds=seconds))
        store, entry = machine(folder, url)
        store.push(entry)
    store, entry = machine(tmp_path / "cluster", url)
    assert store.outcomes(entry) == StoredOutcomes({"a": outcome("a", Status.RESISTED, seconds=2.0)})


def test_disagreement_is_attacked_again(url: str, tmp_path: Path) -> None:
    for name, status in (("laptop", Status.RESISTED), ("cluster", Status.HIT_UNDER_ATTACK)):
        attacked(tmp_path / name, f"memory://{uuid.uuid4()}", outcome("a", status))
        store, entry = machine(tmp_path / name, url)
        store.push(entry)
    store, entry = machine(tmp_path / "cluster", url)
    assert store.outcomes(entry) == StoredOutcomes({}, RejectedLines({Rejection.CONTRADICTING: 2}))
    attacked(tmp_path / "cluster", url, outcome("a", Status.HIT_UNDER_ATTACK))
    for name in ("laptop", "cluster"):
        store, entry = machine(tmp_path / name, url)
        assert store.outcomes(entry) == StoredOutcomes({"a": outcome("a", Status.HIT_UNDER_ATTACK)})
    files, path = at(url, "journal.jsonl")
    assert files.cat_file(path).count(b"\n") == 1


def test_refreshed_outcome_replaces_the_old_one_on_all_machines(url: str, tmp_path: Path) -> None:
    """Also where the old one is at home, and nothing brings it back."""
    attacked(tmp_path / "laptop", url, outcome("a", Status.RESISTED), outcome("b", Status.RESISTED))
    attacked(tmp_path / "cluster", url, outcome("a", Status.HIT_UNDER_ATTACK), mode=Mode.REFRESH)
    for _ in range(2):
        for name in ("laptop", "cluster"):
            store, entry = machine(tmp_path / name, url)
            found = store.outcomes(entry)
            assert {prompt: each.status for prompt, each in found.outcomes.items()} == {
                "a": Status.HIT_UNDER_ATTACK,
                "b": Status.RESISTED,
            }
            assert not found.rejected.lines
            store.push(entry)


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "key of another campaign": ("key.json", json.dumps(key(seed=7).to_dict()).encode(), "in a folder of another"),
    "key without end": ("key.json", b"[" * 100_000, "in a folder of another campaign"),
    "huge key": ("key.json", b" " * 2**21, "in a folder of another campaign"),
    "lines of another campaign": ("journal.jsonl", lines("a")[0].encode("f" * 16), "written for another campaign"),
    "an old schema": ("journal.jsonl", b'{"schema": 1}', "of another version"),
    "no journal": ("journal.jsonl", b"\xff\x00[" * 1000, "damaged"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_remote_content_is_counted_and_not_believed(
    url: str, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, reason = HOSTILE[what]
    attacked(tmp_path / "cluster", url, outcome("a", Status.RESISTED))
    files, path = at(url, name)
    files.pipe_file(path, content)
    store, entry = machine(tmp_path / "laptop", url)
    found = store.outcomes(entry)
    assert found.outcomes == {}
    assert reason in found.rejected.reasons
    assert main(["pull", f"--cache-dir={tmp_path / 'pulled'}", url]) == 0
    assert reason in capsys.readouterr().err
    assert Store(tmp_path / "pulled").campaign("church", key()).outcomes() == StoredOutcomes({})
    attacked(tmp_path / "laptop", url, outcome("b", Status.HIT_UNDER_ATTACK))
    assert Remote(url).read(NAME).outcomes().outcomes == {"b": outcome("b", Status.HIT_UNDER_ATTACK)}


BAD_FACTS = [b"", b"[]", b"{", b'{"victim": "esd.pt"}', b'{"campaign": "' + b"f" * 16 + b'"}', b'{"a":' * 5000]


@pytest.mark.parametrize("content", [*BAD_FACTS, json.dumps({"campaign": key().digest, "x": "y" * 2**20}).encode()])
def test_foreign_metadata_is_ignored(url: str, tmp_path: Path, content: bytes) -> None:
    attacked(tmp_path / "cluster", url, outcome("a", Status.RESISTED))
    files, path = at(url, "facts.json")
    files.pipe_file(path, content)
    store, entry = machine(tmp_path / "laptop", url)
    assert store.metadata(entry) == {}


def test_other_files_and_folders_are_ignored(url: str, tmp_path: Path) -> None:
    attacked(tmp_path / "cluster", url, outcome("a", Status.RESISTED))
    good = f"victim-{'a' * 16}.webp"
    images = {
        good: IMAGE,
        f"victim-{'b' * 16}.webp": IMAGE[:-1],
        f"victim-{'c' * 16}.webp": IMAGE + b"x" * THUMBNAIL_BYTES,
        f"victim-{'d' * 16}.webp": b"<svg onload=alert(1)>",
        f"victim-{'e' * 16}.png": IMAGE,
        "victim-..webp": IMAGE,
    }
    files, path = at(url, "journal.jsonl")
    others = [path.replace(NAME, name) for name in ("church", "x-0123456789abcde", "\x1b[31m-0123456789abcdef")]
    shown = {at(url, f"images/{name}")[1]: content for name, content in images.items()}
    for file, content in {**shown, **dict.fromkeys(others, b"")}.items():
        files.makedirs(file.rpartition("/")[0], exist_ok=True)
        files.pipe_file(file, content)
    assert Remote(url).thumbnails(NAME) == {good: IMAGE}
    assert Remote(url).campaigns() == [NAME]


def test_unreadable_campaign_does_not_stop_pull(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path / 'shared'}"
    attacked(tmp_path / "cluster", url, outcome("a", Status.RESISTED))
    other = tmp_path / "shared" / "campaigns" / f"church-{'0' * 16}"
    (other / "journal.jsonl").mkdir(parents=True)
    assert main(["pull", f"--cache-dir={tmp_path / 'pulled'}", url]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("1 outcome fetched")
    assert f"{other.name}/journal.jsonl there is not a regular file: remove it" in printed.err


def test_credentials_are_redacted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pull", f"--cache-dir={tmp_path}", "memory://me:secret@place/folder"]) == 1
    assert "secret" not in capsys.readouterr().err
