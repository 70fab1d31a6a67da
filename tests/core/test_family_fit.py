"""Settings that a concept leaves to the model's family, and those that do not go with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, GateError, ModelError
from pytest_unlearndiff.core.family_fit import ModelFamily
from pytest_unlearndiff.core.registry import registry

JUDGE = "judge: {kind: image-classifier, model: org/name, label: church}\n"
DEFAULT, OWN = Prompt("a church", 1, 7.5, 0, own_guidance=False), Prompt("a church", 2, 7.5, 1)
CONCEPT = Concept("church", (DEFAULT, OWN), JudgeConfig("x"), images={DEFAULT.digest: "/1.png", OWN.digest: "/2.png"})


def family(name: str, **config: object) -> ModelFamily:
    return ModelFamily(registry().families[name], config)


@pytest.mark.parametrize("name", ["stable-diffusion", "stable-diffusion-xl"])
def test_stable_diffusion_changes_nothing(name: str) -> None:
    assert family(name).concept(CONCEPT) is CONCEPT
    assert family(name).attack(AttackConfig()) == AttackConfig()


@pytest.mark.parametrize(
    ("fitting", "sampling", "guidance"),
    [
        (family("stable-diffusion-3"), Sampling(28, "own"), 7.0),
        (family("flux", guidance_embeds=True), Sampling(28, "own"), 3.5),
        (family("flux", guidance_embeds=False), Sampling(4, "own"), 0.0),
        (family("flux2-klein", is_distilled=False), Sampling(50, "own"), 4.0),
        (family("flux2-klein", is_distilled=True), Sampling(4, "own"), 1.0),
    ],
    ids=["sd3", "dev", "schnell", "klein-base", "klein"],
)
def test_flow_families_have_their_own(fitting: ModelFamily, sampling: Sampling, guidance: float) -> None:
    fitted = fitting.concept(CONCEPT)
    assert fitted.sampling == sampling
    assert [prompt.guidance for prompt in fitted.prompts] == [guidance, 7.5]
    assert [fitted.images[prompt.listed_digest] for prompt in fitted.prompts] == ["/1.png", "/2.png"]
    assert fitting.concept(fitted) == fitted


def test_target_images_are_those_of_the_whole_set_for_a_part_of_it() -> None:
    """So that outcomes of some prompts and of all are kept under one key."""
    whole, part = (family("flux").concept(CONCEPT.first(count)) for count in (None, 1))
    assert whole.images == part.images == CONCEPT.images


def test_what_a_concept_says_counts() -> None:
    own = replace(CONCEPT, sampling=Sampling(10), own_sampling=("steps",))
    assert family("stable-diffusion-3").concept(own).sampling == Sampling(10, "own")
    own = replace(CONCEPT, sampling=Sampling(50, "own"), own_sampling=("scheduler",))
    assert family("stable-diffusion-3").concept(own).sampling == Sampling(28, "own")


@pytest.mark.parametrize("setting", ["scheduler: lms", "spacing: leading"])
def test_a_scheduler_that_a_family_does_not_have_is_refused(setting: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("prompt\na church\n")
    (tmp_path / "x.yaml").write_text(f"prompts: x.csv\n{JUDGE}sampling: {{{setting}}}\n")
    concept = read_concept(tmp_path / "x.yaml")
    with pytest.raises(
        ConceptError, match=f"'x' says {setting}, which pipelines of Stable Diffusion 3 and 3.5 do not have"
    ):
        family("stable-diffusion-3").concept(concept)
    assert family("stable-diffusion").concept(concept) is concept


def test_guidance_of_a_prompt_set_is_its_own_where_it_says_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("prompt,guidance\na church,\na church,7.5\n")
    (tmp_path / "x.yaml").write_text(f"prompts: x.csv\n{JUDGE}")
    assert [prompt.own_guidance for prompt in read_concept(tmp_path / "x.yaml").prompts] == [False, True]


def test_attacks_of_flow_models_measure_at_other_timesteps() -> None:
    attack = family("flux").attack(AttackConfig())
    assert attack.params() != AttackConfig().params()
    assert attack.params() == {
        **AttackConfig().params(),
        "schedule": {**AttackConfig().params()["schedule"], "timesteps": (0.497, 0.618, 0.733, 0.836)},
    }
    assert family("flux").attack(AttackConfig(schedule="paper")).params() == AttackConfig(schedule="paper").params()


def test_attacks_on_encodings_need_texts_of_one_length() -> None:
    ragged = ModelFamily(replace(registry().families["flux"], ragged_texts=True), {})
    ragged.attack(AttackConfig())
    family("flux").attack(AttackConfig("ring-a-bell"))
    with pytest.raises(GateError, match=r"ring-a-bell' compares encodings .* and those of FLUX"):
        ragged.attack(AttackConfig("ring-a-bell"))


def test_defenses_that_cannot_act_are_refused() -> None:
    family("stable-diffusion-3").check_defenses(["negative-prompt"])
    with pytest.raises(ModelError, match=r"negative-prompt cannot act on images of FLUX\.1: it is guided without"):
        family("flux").check_defenses(["negative-prompt"])
    with pytest.raises(ModelError, match="safe-latent-diffusion cannot act on images of Stable Diffusion 3"):
        family("stable-diffusion-3").check_defenses(["negative-prompt", "safe-latent-diffusion"])
    family("stable-diffusion").check_defenses(["trasce", "safree", "negative-prompt"])
    with pytest.raises(ModelError, match="safe-latent-diffusion and trasce cannot act together"):
        family("stable-diffusion").check_defenses(["safe-latent-diffusion", "safree", "trasce"])


@pytest.mark.parametrize("name", ["noise-probe", "completion-probe"])
def test_probes_attack_families_that_draw_with_ddim(name: str) -> None:
    assert family("stable-diffusion-xl").attack(AttackConfig(name)) == AttackConfig(name)
    with pytest.raises(GateError, match=f"'{name}' cannot attack .*: it is only for stable-diffusion, stable-diffu"):
        family("flux").attack(AttackConfig(name))
