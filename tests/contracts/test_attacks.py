"""The contract of attacks, for every built-in one under each of its schedules and the example of a plugin's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from short_schedules import attack_configs, shorten_schedules
from tiny import PROMPTS, tiny_pipeline, tiny_xl
from tiny_transformers import tiny_transformer

from examples import WITH_EXAMPLES
from pytest_unlearndiff.attacks.base import AttackState, PromptState, build_attack
from pytest_unlearndiff.core.attack_config import PLACEMENTS, AttackConfig
from pytest_unlearndiff.core.concept import Prompt, Sampling
from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.info import Effort, Threat
from pytest_unlearndiff.core.registry import Registry
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.base import Conditioning
from pytest_unlearndiff.models.target_images import Targets

Requests = list[GenerationRequest | None]
CONFIGS = {config.title: config for config in attack_configs()}
SEARCHES = {
    title: config
    for title, config in CONFIGS.items()
    if config.info.effort is Effort.SCHEDULED and config.info.threat is not Threat.PROBE
}

pytestmark = pytest.mark.usefixtures("short")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_schedules(monkeypatch)


@pytest.fixture(params=[*CONFIGS, *(name for name in WITH_EXAMPLES.attacks if name not in Registry().attacks)])
def config(request: pytest.FixtureRequest) -> AttackConfig:
    return CONFIGS.get(request.param) or AttackConfig(request.param)


def finish(attack: Any, states: Sequence[PromptState]) -> list[Requests]:
    """Advance to the end; return each state's requests."""
    histories: list[Requests] = [[] for _ in states]
    for _ in range(1000):
        requests = attack.advance(states)
        for history, request in zip(histories, requests, strict=True):
            history.append(request)
        if not any(requests):
            return [[request for request in history if request] for history in histories]
    raise AssertionError("the attack does not end")


def values(state: PromptState, attack: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    saved = attack.save(state)
    return {name: tensor.tolist() for name, tensor in saved.tensors.items()}, dict(saved.facts)


def run(
    config: AttackConfig, victim: DiffusionModel, targets: Targets, prompts: Sequence[Prompt], seed: int = 0
) -> dict[Prompt, Any]:
    """Each prompt's requests and final state, from attacking them together."""
    attack = build_attack(config, victim)
    states = attack.start(prompts, targets, seed)
    histories = finish(attack, states)
    return {state.prompt: (history, values(state, attack)) for state, history in zip(states, histories, strict=True)}


def test_outcomes_do_not_depend_on_the_batch(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    together = run(config, victim, targets, PROMPTS)
    alone = {key: end for prompt in PROMPTS for key, end in run(config, victim, targets, [prompt]).items()}
    assert together == run(config, victim, targets, PROMPTS[::-1]) == alone


@pytest.mark.parametrize(
    "pipeline",
    [tiny_xl, partial(tiny_transformer, "stable-diffusion-3"), partial(tiny_transformer, "flux")],
    ids=["xl", "sd3", "flux"],
)
def test_nor_on_a_model_with_several_text_encoders(pipeline: Callable[[int], Any], config: AttackConfig) -> None:
    victim, base = (DiffusionModel(pipeline(seed), Sampling(2, "own")) for seed in (1, 0))
    if config.info.flow_schedules and victim.flow:
        with pytest.raises(GateError, match="says flow=False, its victim flow=True"):
            build_attack(config, victim)
    config = replace(config, flow=victim.flow)
    together = run(config, victim, Targets(base), PROMPTS[2:])
    alone = {key: end for prompt in PROMPTS[2:] for key, end in run(config, victim, Targets(base), [prompt]).items()}
    assert together == alone
    assert config.info.unattacked or all(requests for requests, _ in together.values())


@pytest.mark.parametrize("placement", PLACEMENTS[1:])
@pytest.mark.parametrize("schedule", ["paper", "fast"])
def test_nor_with_any_placement(schedule: str, placement: Any, victim: DiffusionModel, targets: Targets) -> None:
    config = AttackConfig(schedule=schedule, placement=placement)
    together = run(config, victim, targets, PROMPTS[2:])
    assert together == {key: end for p in PROMPTS[2:] for key, end in run(config, victim, targets, [p]).items()}


def test_seeds_and_random_streams(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    stream = torch.get_rng_state()
    first, again, other = (run(config, victim, targets, PROMPTS[:1], seed)[PROMPTS[0]][0] for seed in (0, 0, 1))
    assert first == again
    assert (first != other) is (config.title in SEARCHES or config.info.effort is Effort.MATCHED)
    assert torch.equal(stream, torch.get_rng_state()), "the global random stream is left alone"


def test_a_loaded_state_goes_on_exactly(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    attack = build_attack(config, victim)
    prompts = PROMPTS[1:3]
    states = attack.start(prompts, targets, 0)
    snapshots, requests = [], []
    for _ in range(20):
        snapshots.append([attack.save(state) for state in states])
        requests.append(attack.advance(states))
        if not any(requests[-1]):
            break
    expected = [values(state, attack) for state in states]
    for rounds, saved in enumerate(snapshots):
        copies = [AttackState(each.tensors, json.loads(json.dumps(each.facts))) for each in saved]
        fresh = build_attack(config, victim)
        loaded = [fresh.load(prompt, each, targets) for prompt, each in zip(prompts, copies, strict=True)]
        histories = finish(fresh, loaded)
        assert histories == [[request for request in row if request] for row in zip(*requests[rounds:], strict=True)]
        assert [values(state, fresh) for state in loaded] == expected, f"saved after round {rounds}"


def test_saved_states_share_no_memory(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    attack = build_attack(config, victim)
    (state,) = attack.start(PROMPTS[:1], targets, 0)
    saved = attack.save(state)
    before = {name: tensor.clone() for name, tensor in saved.tensors.items()}
    loaded = attack.load(PROMPTS[0], saved, targets)
    for _ in range(2):
        attack.advance([state, loaded])
    for name, tensor in saved.tensors.items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.device.type == "cpu"


def test_work_is_what_the_schedule_says(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    attack = build_attack(config, victim)
    (state,) = attack.start(PROMPTS[:1], targets, 0)
    overhead = state.forwards  # references of the classifier's loss
    (requests,) = finish(attack, [state])
    image = victim.forwards_per_image
    match config.info.effort:
        case Effort.SCHEDULED:
            assert state.round == config.last_round
            assert len(requests) <= config.last_round
            restarts = overhead * (1 if overhead and config.last_round > 2 else 0)
            searching = config.forward_passes(image) - config.last_round * image
            assert state.forwards == searching + overhead + restarts
        case Effort.MATCHED:
            spent = state.forwards + len(requests) * image
            assert 0 <= config.forward_passes(image) - spent < image
        case Effort.OPEN:
            counts = {"none": 0, "transfer": len(config.known.of(state.prompt)), "echo": 2}
            assert len(requests) == counts[config.name]
            assert state.forwards == 0


def test_requests_can_be_typed(config: AttackConfig, victim: DiffusionModel, targets: Targets) -> None:
    attack = build_attack(config, victim)
    states = attack.start(PROMPTS, targets, 0)
    for request, state in zip(attack.advance(states), states, strict=True):
        if request is None or config.info.replays_known:
            continue
        assert request.guidance == state.prompt.guidance
        assert victim.tokens(request.text) <= victim.vocabulary.length or not config.info.uses_slots
        if config.info.threat is Threat.PROBE:
            assert (request.text, request.seed) == (state.prompt.text, state.prompt.seed)
        if config.info.uses_slots:
            assert request.seed == state.prompt.seed
            assert request.text.startswith(str(state.inserted))


class Overflowing(DiffusionModel):
    """Measures other errors of a target image whose first number is 77.

    Attributes:
        measured: added to its denoising error.
        slope: factor of the gradient of its error.
    """

    measured = 0.0
    slope = 1.0

    def denoising_error(self, x0: torch.Tensor, *rest: Any) -> torch.Tensor:
        error = super().denoising_error(x0, *rest)
        marked = x0[:, 0, 0, 0] == 77
        if error.requires_grad:
            error.register_hook(lambda gradient: torch.where(marked, gradient * self.slope, gradient))
        return error + torch.where(marked, self.measured, 0.0)


class OverflowingTexts(DiffusionModel):
    """Encodes texts as infinity."""

    def encode(self, *arguments: Any) -> Conditioning:
        rows = super().encode(*arguments)
        return replace(rows, tensors={name: rows.tensor(name) * torch.inf for name in rows.tensors})


def mark(state: Any) -> None:
    if hasattr(state, "x0"):
        state.x0[0, 0, 0] = 77
    else:  # the searches that compare text states
        state.base = OverflowingTexts(tiny_pipeline(0), Sampling(steps=2))


@pytest.mark.parametrize("fault", ["inf", "-inf", "nan", "gradient"])
@pytest.mark.parametrize("config", SEARCHES, indirect=True)
def test_overflow_is_an_error_of_its_own_prompt(config: AttackConfig, fault: str, targets: Targets) -> None:
    """It never looks like a prompt that resisted, though its images stay finite."""
    victim = Overflowing(tiny_pipeline(1), Sampling(steps=2))
    attack = build_attack(config, victim)
    good, bad = attack.start(PROMPTS[:2], targets, 0)
    mark(bad)
    victim.measured, victim.slope = (0.0, torch.inf) if fault == "gradient" else (float(fault), 1.0)
    requests = attack.advance([good, bad])
    assert requests[1] is None
    assert "became" in bad.error
    assert "--unlearndiff-dtype is too narrow" in bad.error
    assert requests[0] is not None
    assert good.error is None
    (alone,) = attack.start(PROMPTS[:1], targets, 0)
    assert attack.advance([alone]) == requests[:1]
    assert values(alone, attack) == values(good, attack)


@pytest.mark.parametrize("when", ["first", "restart"])
def test_overflow_of_the_classifier_losss_references(when: str, targets: Targets) -> None:
    """Infinitely bad references would make any prompt a good one."""
    victim = Overflowing(tiny_pipeline(1), Sampling(steps=2))
    search: Any = build_attack(AttackConfig(loss="classifier"), victim)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    victim.measured = torch.inf
    mark(state)
    if when == "first":
        search._restart(state)
        assert state.error is not None
    victim.measured = 0.0 if when == "first" else torch.inf
    assert [search.advance([state]) for _ in range(3)][-1] == [None]
    assert "became inf" in str(state.error)
