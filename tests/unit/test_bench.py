"""One campaign on a bench: what a turn reports, what travels with it, and what never leaves the bench."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_engine import workers_elsewhere
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.positive_control import base_campaign
from pytest_unlearndiff.store.hashing import Fingerprints
from pytest_unlearndiff.store.store import Store
from pytest_unlearndiff.store.thumbnails import Thumbnails
from pytest_unlearndiff.workers.distributed_engine import WorkerPoolConfig
from pytest_unlearndiff.workers.ray_backend import RayBackend
from pytest_unlearndiff.workers.worker import (
    JobSpec,
    NullStore,
    Report,
    Thumbnail,
    ThumbnailBuffer,
    Worker,
    WorkerJob,
    check_files,
)


class Slow:
    """An engine in which nothing ends before the third round."""

    batch_size = 2

    def serve(self, arrived: Callable[[], Sequence[Prompt]]) -> Generator[Outcome | None]:
        seats = list(arrived())
        while True:
            yield None
            yield None
            for prompt in seats:
                yield Outcome(prompt.digest, Status.RESISTED)
            seats = []


def test_a_turn_goes_on_until_something_ends_and_takes_along_what_is_new() -> None:
    seen, packed, prompts = Outcome("base", Status.HIT_WITHOUT_ATTACK), ThumbnailBuffer(), concept(2).prompts
    sitting = WorkerJob(Slow(), {seen.prompt: seen}, packed, list(prompts))  # type: ignore[arg-type]
    store = NullStore(packed)
    campaign = Campaign(concept(2), AttackConfig(), Fingerprint("v", "t"), "j")
    images = store.writable_thumbnails(store.campaign("church", campaign.key))
    assert images is not None
    images.write("d", b"RIFF", base=True)
    report = sitting.turn(1e9)
    assert [outcome.prompt for outcome in report.outcomes] == [prompt.digest for prompt in prompts]
    assert report.watched == [seen]
    assert report.thumbnails == [Thumbnail("d", b"RIFF", True)]
    later = sitting.turn(0)
    assert (later.outcomes, later.watched, later.thumbnails) == ([], [], []), "nothing is told twice"


def test_a_bench_says_where_it_is() -> None:
    assert Worker().ready() == platform.node()


def test_other_target_images_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "victim.pt").write_text("weights")
    (tmp_path / "1.png").write_text("one")
    asked = concept(1)
    shown = replace(asked, images={asked.prompts[0].digest: str(tmp_path / "1.png")})
    source = ModelSpec(tmp_path / "victim.pt")
    fingerprint = Fingerprint.of(source, Fingerprints(), shown.images)
    order = JobSpec(Campaign(shown, AttackConfig(), fingerprint, "j"), source, batch_size=1)
    (tmp_path / "1.png").write_text("another")
    with pytest.raises(ModelError, match="target images of concept 'church' have other content here"):
        check_files(order, order, Fingerprints())


@pytest.mark.parametrize("images", [True, False])
def test_what_workers_learn_of_the_base_and_draw_is_kept_here(tmp_path: Path, images: bool) -> None:
    """A worker sees only its own GPU, whatever its number is here."""
    store = Store(tmp_path, keep_images=images)
    campaign = Campaign(concept(2), AttackConfig(), Fingerprint("v", "t"), "j")
    entry = store.campaign("church", campaign.key)
    store.create(entry, campaign.key)
    watched: dict[str, Outcome] = {}
    crew = WorkerPoolConfig(RayBackend("1", "cpu"), 60)
    workers, _ = workers_elsewhere(campaign, crew, ModelSpec(device="cuda:3"), 2, store, watched)
    assert workers.order.source.device == "cuda"
    open_, _ = workers_elsewhere(campaign, crew, ModelSpec(device="auto", dtype="auto"), 2, store, watched)
    assert (open_.order.source.device, open_.order.source.dtype) == ("auto", "auto"), "each worker finds its own"
    seen = Outcome(campaign.concept.prompts[0].digest, Status.HIT_WITHOUT_ATTACK)
    workers.received(Report(2, watched=[seen], thumbnails=[Thumbnail("d" * 16, b"RIFF....WEBP", False)]))
    assert watched == {seen.prompt: seen}
    base = base_campaign(campaign.concept, "t", "j")
    assert store.outcomes(store.campaign("church", base.key))[0] == watched
    assert (Thumbnails(entry.folder).read("d" * 16) is not None) is images
