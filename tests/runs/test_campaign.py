"""A campaign's own campaign without attack keeps what its fingerprint says of the victim."""

from __future__ import annotations

from pathlib import Path

from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint
from pytest_unlearndiff.store.store import Mode, Store


def test_unattacked_images_of_an_unversioned_victim_are_neither_kept_nor_answered(tmp_path: Path) -> None:
    asked, store = concept(), Store(tmp_path, Mode.RW)
    complete = Campaign(asked, AttackConfig(), Fingerprint("aaaa", "bbbb"), "cccc")
    plain = complete.without_attack()
    store.create(plain.folder(store), plain.key)
    store.append(plain.folder(store), Outcome(asked.prompts[0].digest, Status.RESISTED))
    assert set(complete.stored_unattacked(store, {})) == {asked.prompts[0].digest}

    hooked = Campaign(asked, AttackConfig(), Fingerprint("aaaa", "bbbb", unhashed=("a forward hook",)), "cccc")
    assert hooked.without_attack().key == plain.key
    assert hooked.without_attack().store_of(store).mode is Mode.OFF
    assert hooked.stored_unattacked(store, {}) == {}
