"""What every store must do, local or shared, in every mode; and that damage to a store invents no outcome."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from builders import concept, key, outcome, run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import StoreError, UnlearnDiffError
from pytest_unlearndiff.core.gate import Gate, Verdict
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.positive_control import base_campaign
from pytest_unlearndiff.store.campaign_dir import CampaignDir
from pytest_unlearndiff.store.journal import StoredOutcomes
from pytest_unlearndiff.store.key import AttackKey
from pytest_unlearndiff.store.shared_store import SharedStore
from pytest_unlearndiff.store.store import LastSession, Mode, Store
from pytest_unlearndiff.store.thumbnails import Thumbnails

STORES: dict[str, Callable[[Path, Mode], Store]] = {
    "local": lambda folder, mode: Store(folder / "store", mode, keep_images=True),
    "shared in memory": lambda folder, mode: SharedStore(folder / "store", f"memory:/{folder}", mode, keep_images=True),
    "shared folder": lambda folder, mode: SharedStore(
        folder / "store", f"file://{folder / 'shared'}", mode, keep_images=True
    ),
}
MakeStore = Callable[[Mode], Store]


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    return partial(STORES[request.param], tmp_path)


def keep(store: Store, *outcomes: Outcome, attack_key: AttackKey | None = None) -> CampaignDir:
    """What a session does that attacks a campaign."""
    attack_key = attack_key or key()
    entry = store.campaign("church", attack_key)
    store.outcomes(entry)
    store.create(entry, attack_key)
    store.write_metadata(entry, {"victim": "esd.pt"})
    if (thumbnails := store.writable_thumbnails(entry)) is not None:
        thumbnails.add("a" * 16, Image.new("RGB", (8, 8)))
    with store.lock(entry), store.sharing(entry):
        for finished in outcomes:
            store.append(entry, finished)
    return entry


@pytest.mark.parametrize("mode", Mode)
def test_looking_creates_nothing(make_store: MakeStore, tmp_path: Path, mode: Mode) -> None:
    store = make_store(mode)
    entry = store.campaign("church", key())
    assert store.outcomes(entry) == StoredOutcomes({})
    assert (store.metadata(entry), store.campaigns(), store.push_pending()) == ({}, [], "")
    assert store.closest_campaign("church", key()) is None
    assert store.thumbnails("church", key().digest).read("a" * 16) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", Mode)
def test_mode_decides_what_is_written(make_store: MakeStore, tmp_path: Path, mode: Mode) -> None:
    entry = keep(make_store(mode), outcome("a", Status.RESISTED))
    later = make_store(Mode.RO)
    assert bool(later.outcomes(entry).outcomes) is mode.writes
    assert bool(later.metadata(entry)) is mode.writes
    assert (later.thumbnails("church", key().digest).read("a" * 16) is not None) is mode.writes
    assert bool(list(tmp_path.iterdir())) is mode.writes


@pytest.mark.parametrize("mode", Mode)
def test_mode_decides_what_is_read(make_store: MakeStore, mode: Mode) -> None:
    resisted = outcome("a", Status.RESISTED)
    keep(make_store(Mode.RW), resisted)
    store = make_store(mode)
    entry = store.campaign("church", key())
    assert store.outcomes(entry) == StoredOutcomes({"a": resisted} if mode.reads else {})
    assert store.metadata(entry) == ({"victim": "esd.pt"} if mode.reads else {})
    assert (store.closest_campaign("church", key(seed=1)) is not None) is mode.reads


def test_other_key_finds_nothing(make_store: MakeStore) -> None:
    keep(make_store(Mode.RW), outcome("a", Status.RESISTED))
    store = make_store(Mode.RW)
    assert store.outcomes(store.campaign("church", key(seed=1))) == StoredOutcomes({})
    assert store.closest_campaign("church", key(seed=1)) is not None
    assert store.closest_campaign("van gogh", key(seed=1)) is None


def test_error_is_not_finished_and_undoes_nothing(make_store: MakeStore) -> None:
    resisted = outcome("a", Status.RESISTED)
    entry = keep(make_store(Mode.RW), resisted, outcome("b", Status.ERROR))
    keep(make_store(Mode.REFRESH), outcome("a", Status.ERROR))
    assert make_store(Mode.RO).outcomes(entry) == StoredOutcomes({"a": resisted})


def test_refreshed_outcome_replaces_the_old_one(make_store: MakeStore) -> None:
    hit = outcome("a", Status.HIT_UNDER_ATTACK)
    entry = keep(make_store(Mode.RW), outcome("a", Status.RESISTED), outcome("b", Status.RESISTED))
    keep(make_store(Mode.REFRESH), hit)
    assert make_store(Mode.RO).outcomes(entry) == StoredOutcomes({"a": hit, "b": outcome("b", Status.RESISTED)})


@pytest.mark.parametrize(
    "name", ["Van Gogh", "../../etc", "/etc/passwd", "a\\b", "..", "", "教会", "x\0y\n", "long" * 200]
)
def test_any_concept_name_stays_inside_the_store(make_store: MakeStore, name: str) -> None:
    store = make_store(Mode.RW)
    entry = store.campaign(name, key())
    assert entry.folder.parent == store.root / "campaigns"
    store.create(entry, key())
    assert [other.name for other in store.campaigns()] == [entry.name]


@pytest.mark.parametrize(("seed", "waits"), [(0, True), (1, False)])
def test_lock_is_one_campaigns(make_store: MakeStore, seed: int, waits: bool) -> None:
    first, second = make_store(Mode.RW), make_store(Mode.RW)
    entry, other = keep(first), keep(second, attack_key=key(seed=seed))
    entered = threading.Event()

    def attack() -> None:
        with second.lock(other):
            entered.set()

    thread = threading.Thread(target=attack)
    with first.lock(entry):
        thread.start()
        assert entered.wait(0.3 if waits else 10) is not waits
    thread.join(10)
    assert entered.is_set()


def test_disk_error_names_both_remedies(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(Mode.RW)
    entry = keep(store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot be written: .*No space left.*--unlearndiff-cache-dir.*cache=off"):
        store.append(entry, outcome("a", Status.RESISTED))


# Damage: what happens to the files of a store must never make a gate pass.

COUNT = 10
STATUS = {"b": Status.HIT_UNDER_ATTACK, "r": Status.RESISTED, "g": Status.HIT_WITHOUT_ATTACK, "e": Status.ERROR}
CONCEPT = concept(COUNT)
GATE = Gate(Fraction(1, 10))


def campaign(victim: str, base: str = "base") -> Campaign:
    return Campaign(CONCEPT, AttackConfig(), Fingerprint(victim, base), "judge")


def shown(base: str) -> Campaign:
    """What the judge saw in the base's own images."""
    return base_campaign(CONCEPT, base, "judge")


# Every campaign of the store with how its prompts ended; those that were attacked again have a second word.
MEASURED: dict[str, tuple[Campaign, list[str]]] = {
    "fails": (campaign("fails"), ["bbbrrrrrrr"]),
    "passes": (campaign("passes"), ["rrrrrrrrrr"]),
    "is not finished": (campaign("is not finished"), ["rrrr"]),
    "errs": (campaign("errs"), ["rrrrrrrree"]),
    "fails since it was refreshed": (campaign("refreshed"), ["rrrrrrrrrr", "bbbbbrrrrr"]),
    "has a judge that sees nothing": (campaign("blind", "blind base"), ["rrrrrrrrrr"]),
    "base": (shown("base"), ["gggggggggg"]),
    "blind base": (shown("blind base"), ["rrrrrrrrrr"]),
}
GATED = {name: each for name, (each, _) in MEASURED.items() if each.attack.name != "none"}
PASSES = {"passes"}


def made_outcome(prompt: Prompt, letter: str) -> Outcome:
    broken = {"adversarial": f"zq {prompt.text}", "inserted": "zq"} if letter == "b" else {}
    error = "out of memory" if letter == "e" else None
    return Outcome(prompt.digest, STATUS[letter], seed=prompt.seed, error=error, **broken)  # type: ignore[arg-type]


def written(root: Path) -> None:
    """A store that holds all of the above, as sessions write it."""
    for each, runs in MEASURED.values():
        for mode, letters in zip((Mode.RW, Mode.REFRESH), runs, strict=False):
            store = Store(root, mode)
            entry = store.campaign("church", each.key)
            store.create(entry, each.key)
            for prompt, letter in zip(CONCEPT.prompts, letters, strict=False):
                store.append(entry, made_outcome(prompt, letter))


def measured(each: Campaign) -> set[Outcome]:
    """The outcomes that count of a campaign: of its last run."""
    runs = next(runs for other, runs in MEASURED.values() if other is each)
    return {
        made_outcome(prompt, letter) for prompt, letter in zip(CONCEPT.prompts, runs[-1], strict=False) if letter != "e"
    }


def verdict(each: Campaign, store: Store) -> str:
    """How the gate on a campaign ends where nothing may be attacked."""

    def attacked() -> ModelSpec:
        raise AssertionError("nothing may be attacked here")

    result = run(each, store, attacked, may_pass=GATE.may_pass)
    return GateReport.of(result, GATE, "test_gate").verdict


Folders = dict[str, Path]
Damage = Callable[[Folders, random.Random], None]
"""What happens to the folders of campaigns, by their names before anything happened."""


def some(folders: Folders, chance: random.Random) -> Path:
    return folders[chance.choice(sorted(folders))]


def lines_of(folder: Path) -> list[bytes]:
    journal = folder / "journal.jsonl"
    return journal.read_bytes().splitlines(keepends=True) if journal.is_file() else []


def copy_line(folders: Folders, chance: random.Random) -> None:
    """Into the same journal or another one, anywhere in it."""
    lines, target = lines_of(some(folders, chance)), some(folders, chance)
    if not lines or not target.is_dir():
        return
    there = lines_of(target)
    there.insert(chance.randint(0, len(there)), chance.choice(lines).rstrip(b"\n") + b"\n")
    (target / "journal.jsonl").write_bytes(b"".join(there))


def merge_journals(folders: Folders, chance: random.Random) -> None:
    source, target = some(folders, chance), some(folders, chance)
    if target.is_dir():
        (target / "journal.jsonl").write_bytes(b"".join(lines_of(target) + lines_of(source)))


def drop_line(lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def shuffle_lines(lines: list[bytes], chance: random.Random) -> None:
    chance.shuffle(lines)


def edit_lines(lines: list[bytes], chance: random.Random) -> None:
    """As somebody does who would like another result, and computes no check."""
    edits = (b'"hit-under-attack"', b'"resisted"'), (b'"attempt": 1', b'"attempt": 3'), (b'"error"', b'"resisted"')
    old, new = chance.choice(edits)
    lines[:] = [line.replace(old, new) for line in lines]


def flip_bits(lines: list[bytes], chance: random.Random) -> None:
    content = bytearray(b"".join(lines))
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    lines[:] = [content]


def tear(lines: list[bytes], chance: random.Random) -> None:
    content = b"".join(lines)
    lines[:] = [content[: chance.randrange(len(content))]]


def in_a_journal(damage: Callable[[list[bytes], random.Random], None]) -> Damage:
    """Damage that befalls the lines of one journal, where it has any."""

    def happens(folders: Folders, chance: random.Random) -> None:
        folder = some(folders, chance)
        if lines := [line for line in lines_of(folder) if line]:
            damage(lines, chance)
            (folder / "journal.jsonl").write_bytes(b"".join(lines))

    return happens


def claim_lines(folders: Folders, chance: random.Random) -> None:
    """Write this campaign's digest into another one's lines."""
    source, target = some(folders, chance), some(folders, chance)
    if target.is_dir():
        theirs, mine = (name.rsplit("-", 1)[1].encode() for name in (source.name, target.name))
        (target / "journal.jsonl").write_bytes(b"".join(lines_of(source)).replace(theirs, mine))


def swap(name: str) -> Damage:
    """Two files, or whole folders, get each other's names; the second one is deleted where there is no first one."""

    def happens(folders: Folders, chance: random.Random) -> None:
        first, second = (some(folders, chance) / name for _ in range(2))
        aside = first.parent / "aside"
        if first != second and first.parent.is_dir() and second.parent.is_dir():
            for source, target in ((first, aside), (second, first), (aside, second)):
                if source.exists():
                    source.rename(target)

    return happens


def copy_over(folders: Folders, chance: random.Random) -> None:
    source, target = some(folders, chance), some(folders, chance)
    if source != target and source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def lose(name: str) -> Damage:
    def happens(folders: Folders, chance: random.Random) -> None:
        (some(folders, chance) / name).unlink(missing_ok=True)

    return happens


DAMAGES: list[Damage] = [
    copy_line, merge_journals, claim_lines, copy_over, lose("key.json"), lose("journal.jsonl"),
    *map(in_a_journal, (drop_line, shuffle_lines, edit_lines, flip_bits, tear)),
    *map(swap, ("", "journal.jsonl", "key.json", "facts.json")),
]  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        written(root)
    return root


@pytest.mark.parametrize("where", ["here", "shared", "pulled"])
def test_undamaged_store_is_believed(pristine: Path, tmp_path: Path, where: str) -> None:
    """Without which the test below would pass whatever it found."""
    store = stored(pristine, tmp_path, where)
    for name, each in GATED.items():
        assert set(store.outcomes(store.campaign("church", each.key)).outcomes.values()) == measured(each), name
        assert (verdict(each, store) == Verdict.PASS) is (name in PASSES), name


def stored(damaged: Path, elsewhere: Path, where: str) -> Store:
    """A session's store, whose content is in this folder, at a URL or was fetched from there."""
    if where == "here":
        return Store(damaged, Mode.REQUIRE)
    url = f"file://{damaged}"
    if where == "pulled":
        assert main(["pull", f"--cache-dir={elsewhere / 'mine'}", url]) in (0, 1)
        return Store(elsewhere / "mine", Mode.REQUIRE)
    return SharedStore(elsewhere / "mine", url, Mode.REQUIRE)


@given(
    happening=st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    where=st.sampled_from(["here", "here", "shared", "pulled"]),
)
def test_damage_invents_no_outcome_and_passes_no_gate(
    pristine: Path, happening: list[Damage], seed: int, where: str
) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        damaged = Path(name) / "store"
        shutil.copytree(pristine, damaged)
        folders = {path.name: path for path in (damaged / "campaigns").iterdir()}
        for happens in happening:
            happens(folders, chance)
        store = stored(damaged, Path(name), where)
        for each, _ in MEASURED.values():
            found = store.outcomes(store.campaign("church", each.key)).outcomes
            assert set(found.values()) <= measured(each)
        for gated, each in GATED.items():
            assert verdict(each, store) != Verdict.PASS or gated in PASSES, gated


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    """A socket, which stays when whoever listens there has gone; its path may be longer than sockets' names."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def huge(path: Path) -> None:
    """Of 16 GiB, none of which is on the disk."""
    path.touch()
    os.truncate(path, 2**34)


KINDS = [pipe, listener, folder, device, nowhere, huge]
NAMES = ["journal.jsonl", "key.json", "facts.json", "images", "images/victim-{}.webp", "lock"]
TOP = ["fingerprints.json", "gates", "gates/session.json", "campaigns"]


def put(root: Path, name: str, kind: Callable[[Path], None]) -> Path:
    """Have something of this kind stand in the place of a store's file."""
    digest = CONCEPT.prompts[0].digest
    home = root if name in TOP else Store(root).campaign("church", GATED["fails"].key).folder
    path = home / name.format(digest)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    kind(path)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*NAMES, *TOP])
def test_special_file_is_one_error_or_ignored(
    pristine: Path, tmp_path: Path, name: str, kind: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    shutil.copytree(pristine, root)
    put(root, name, kind)
    each, prompt = GATED["fails"], CONCEPT.prompts[0]

    def asked(store: Store) -> None:
        assert verdict(each, store) in (Verdict.FAIL, Verdict.INCOMPLETE)
        store.thumbnails("church", each.key.digest).read(prompt.digest)
        store.fingerprints.of(Path(__file__))

    def attacked(store: Store) -> None:
        entry = store.campaign("church", each.key)
        store.create(entry, each.key)
        with store.lock(entry), store.sharing(entry):
            store.append(entry, made_outcome(prompt, "b"))
            Thumbnails(entry.folder).write(prompt.digest, b"RIFF\x04\0\0\0WEBP")
            store.write_metadata(entry, {"victim": "esd.pt"})

    def command(*arguments: str) -> None:
        if main([*arguments]) != 0:
            printed = capsys.readouterr()
            raise UnlearnDiffError((printed.err or printed.out.splitlines()[-1]).strip())

    here, url = f"--cache-dir={root}", f"file://{root}"
    uses: list[Callable[[], object]] = [
        lambda: asked(Store(root, Mode.REQUIRE)),
        lambda: asked(SharedStore(tmp_path / "none", url, Mode.REQUIRE)),
        lambda: LastSession(root).read(),
        lambda: command("show", here),
        lambda: command("pull", f"--cache-dir={tmp_path / 'pulled'}", url),
        lambda: attacked(SharedStore(tmp_path / "mine", url, Mode.REFRESH, keep_images=True)),
        lambda: attacked(Store(root, Mode.REFRESH, keep_images=True)),
        lambda: command("prune", here),
    ]
    said = [complaint for use in uses if (complaint := complaint_of(use))]
    assert not [text for text in said if "\n" in text or len(text) > 1000]
    if name == "journal.jsonl" and kind is not nowhere:
        assert any("journal.jsonl" in text for text in said), said


def complaint_of(use: Callable[[], object]) -> str:
    try:
        use()
    except UnlearnDiffError as error:
        return str(error)
    return ""
