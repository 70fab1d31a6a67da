"""What is asked of machines before anything runs on them: the same packages, and the same files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from pytest_unlearndiff.campaign.bench import Order, check_files
from pytest_unlearndiff.campaign.campaign import Campaign
from pytest_unlearndiff.campaign.parts import Fingerprint, VictimSource
from pytest_unlearndiff.campaign.ray_team import RayTeam, _quietly, asker, differing
from pytest_unlearndiff.core.attack_spec import AttackSpec
from pytest_unlearndiff.core.concept import Concept, JudgeSpec
from pytest_unlearndiff.core.errors import CannotAttack, ModelError
from pytest_unlearndiff.store.fingerprint import Fingerprints
from pytest_unlearndiff.store.judge_weights import judge_weights

from .builders import prompts


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"torch": "2"}, {"torch": "2"}, []),
        ({"torch": "2"}, {"torch": "3"}, ["n1 has torch 3, not 2"]),
        ({"torch": "2"}, {"torch": ""}, ["n1 has no torch"]),
        ({"torch": ""}, {"torch": "3"}, []),
        ({"torch": ""}, {"torch": ""}, ["n1 has no torch"]),
    ],
)
def test_packages_that_differ_are_named(here: dict[str, str], there: dict[str, str], said: list[str]) -> None:
    assert differing([("here", here), ("n1", there)]) == said


def test_where_pytest_has_no_torch_the_machines_still_have_to_agree() -> None:
    answers = [("here", {"torch": ""}), ("n1", {"torch": "2"}), ("n2", {"torch": "3"})]
    assert differing(answers) == ["n2 has torch 3, not 2"]


def test_a_machine_says_what_it_has() -> None:
    _, found = asker(["pytest", "no-such-package"])()
    assert found["pytest"] == pytest.__version__
    assert found["no-such-package"] == ""


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CannotAttack, match=r'pip install "pytest-unlearndiff\[ray\]"'):
        RayTeam("2", "cpu").gather(order(Path(), ""), 1)


class Resources:
    """What Ray says of its machines."""

    def __init__(self, gpus: int, cpus: int) -> None:
        self._resources = {"GPU": float(gpus), "CPU": float(cpus)}

    def cluster_resources(self) -> dict[str, float]:
        return self._resources


@pytest.mark.parametrize(
    ("where", "device", "gpus", "count", "share"),
    [
        ("ray", "cuda", 3, 3, 1),
        ("ray/2", "cuda", 3, 6, 1 / 2),
        ("ray://head:10001/3", "cuda", 3, 8, 1 / 3),
        ("auto/4", "cuda", 1, 4, 1 / 4),
        ("4", "cuda", 2, 4, 1 / 2),
        ("5", "cuda", 2, 5, 1 / 3),
        ("ray/2", "cpu", 0, 8, 1 / 2),
    ],
)
def test_workers_share_gpus(where: str, device: str, gpus: int, count: int, share: float) -> None:
    team = RayTeam(where, device)
    team._ray = Resources(gpus, cpus=8)
    assert team._count() == count
    assert team._share == pytest.approx(share)


@pytest.mark.parametrize(
    ("where", "said"), [("ray/2", "ray: a worker needs a GPU and a CPU, and the cluster at ray has 0")]
)
def test_no_place_says_so(where: str, said: str) -> None:
    team = RayTeam(where, "cuda")
    team._ray = Resources(0, 8)
    with pytest.raises(CannotAttack, match=said):
        team._count()


def test_a_cluster_that_is_silent_may_miss_a_token() -> None:
    def connect() -> None:
        raise ConnectionError("ray client connection timeout")

    with pytest.raises(CannotAttack, match=r"^--unlearndiff-workers=ray://head:10001: .* timeout\. .*RAY_AUTH_TOKEN$"):
        _quietly("ray://head:10001", connect)
    with pytest.raises(CannotAttack, match=r"timeout$"):
        _quietly("ray", connect)


def order(folder: Path, judge: str, *, victim: str = "") -> Order:
    source = VictimSource(folder / "victim.pt", folder / "base.pt")
    spec = JudgeSpec("image-classifier", {"model": str(folder / "judge.bin"), "label": "church"})
    campaign = Campaign(Concept("church", prompts(2), spec), AttackSpec(), Fingerprint(victim, ""), judge)
    return Order(campaign, source, lanes=1)


@pytest.fixture
def files(tmp_path: Path) -> Order:
    for name in ("victim.pt", "base.pt", "judge.bin"):
        (tmp_path / name).write_text(name)
    blank = order(tmp_path, "")
    judge = judge_weights(blank.campaign.concept.judge, Fingerprints())
    return order(tmp_path, judge, victim=Fingerprint.of(blank.source, Fingerprints()).victim)


def test_the_same_files_are_taken(files: Order) -> None:
    check_files(files, files, Fingerprints())


@pytest.mark.parametrize(
    ("name", "said"),
    [("victim.pt", "victim.pt"), ("base.pt", "victim.pt"), ("judge.bin", "judge of concept")],
)
def test_other_files_are_refused_by_name(files: Order, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("other")
    with pytest.raises(ModelError, match=f"{said}.* other weights here than where pytest runs"):
        check_files(files, files, Fingerprints())
