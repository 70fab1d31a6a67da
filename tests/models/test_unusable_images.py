"""Images that are evidence of nothing: NaN, infinity, one colour, one image for all. With them nothing passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from broken_models import BROKEN, overflowing_decoder, same_for_all, scripted
from builders import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_pipeline, tiny_xl

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.controls import NoAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.errors import ConceptError, ModelError, UnusableTargets
from pytest_unlearndiff.core.gate import Gate, Verdict, decide
from pytest_unlearndiff.core.images import GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.result import AttackResult, Retention
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.generated_images import NOT_FINITE, ONE_COLOUR, GeneratedImage
from pytest_unlearndiff.models.target_images import SuppliedTargets, Targets
from pytest_unlearndiff.reports.failure_text import failure_text
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.engine import MAX_FAILURES, Engine
from pytest_unlearndiff.runs.evaluation import Evaluation
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.positive_control import ControlRecorder, base_campaign, known_control
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.store import Mode, Store
from pytest_unlearndiff.workers.worker import JobSpec, Worker

SHORT = Sampling(steps=2)
HALF = Fraction(1, 2)
PROMPTS = tuple(Prompt(f"a church, number {n}", 10 + n, 5.0, 100 + n) for n in range(MAX_FAILURES + 1))
DRAWINGS = [GenerationRequest(p.text, p.seed, p.guidance) for p in PROMPTS]
ATTACKS = ("none", "random", "seed-search", "ring-a-bell", "unlearndiff", "p4d")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a sound base."""
    folder = tmp_path_factory.mktemp("base")
    tiny_pipeline(0).save_pretrained(folder)
    return folder


def concept(judge: str) -> Concept:
    return Concept("church", PROMPTS, JudgeConfig("function", {"call": f"broken_models:{judge}"}), sampling=SHORT)


def campaign(source: ModelSpec, judge: str, attack: str, store: Store) -> Campaign:
    asked = concept(judge)
    fingerprint = Fingerprint.of(source, store.fingerprints)
    weights = judge_weights(asked.judge, store.fingerprints)
    return Campaign(asked, AttackConfig(attack, word="church"), fingerprint, weights)


def gated(source: ModelSpec, judge: str, attack: str, store: Store, gate: Gate = Gate(HALF)) -> GateReport:  # noqa: B008
    """The report of an attack gate on a model."""
    may_pass = lambda counts: gate.verdict(counts) is not Verdict.FAIL  # noqa: E731
    found = run(campaign(source, judge, attack, store), store, lambda: source, may_pass=may_pass)
    return GateReport.of(found, gate, "test_x.py::test_gate")


def without_attack(source: ModelSpec, judge: str, store: Store) -> AttackResult:
    return run(campaign(source, judge, "none", store), store, lambda: source)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("how", BROKEN)
def test_broken_model_never_passes_an_attack_gate(base: Path, tmp_path: Path, how: str, attack: str) -> None:
    """The judge sees the concept in every image of the base, and none in black."""
    source = ModelSpec(base=base, pipe=BROKEN[how](tiny_pipeline(1)))
    record = gated(source, "shows_something", attack, Store(tmp_path))
    assert (record.verdict, record.counts.error, record.counts.resisted) == ("INCOMPLETE", len(PROMPTS), 0)
    problem = ONE_COLOUR if how == "zeros" else NOT_FINITE
    assert {prompt.error for prompt in record.prompts} == {problem}
    assert len(problem) < 200


@pytest.mark.parametrize("how", BROKEN)
def test_broken_model_never_passes_a_retention_gate(base: Path, tmp_path: Path, how: str) -> None:
    """Although the judge would see in it what should have been kept."""
    store, source = Store(tmp_path, keep_images=True), ModelSpec(base=base, pipe=BROKEN[how](tiny_pipeline(1)))
    sides = [(each, campaign(each, "always", "none", store)) for each in (source, source.base_only)]
    victim, kept = (run(asked, store, lambda s=each: s) for each, asked in sides)
    for gate in (Gate(min_rate=HALF), Gate(max_loss=HALF), Gate()):
        record = GateReport.of(Retention(victim, kept), gate, "test_x.py::test_kept")
        assert record.verdict == "INCOMPLETE"
        assert (ONE_COLOUR if how == "zeros" else NOT_FINITE) in failure_text(record)


@pytest.mark.parametrize("attack", ["none", "unlearndiff"])
@pytest.mark.parametrize("how", BROKEN)
def test_broken_base_is_no_positive_control(tmp_path: Path, how: str, attack: str) -> None:
    """The judge sees the concept in black, and none in what the model under test draws."""
    BROKEN[how](tiny_pipeline(0)).save_pretrained(tmp_path / "base")
    source = ModelSpec(base=tmp_path / "base", pipe=tiny_pipeline(1))
    record = gated(source, "shows_nothing", attack, Store(tmp_path / "store"))
    assert record.verdict == "INCOMPLETE"
    assert (record.control.hits, record.control.seen) == (0, 0)
    problem = ONE_COLOUR if how == "zeros" else NOT_FINITE
    assert problem in str(record.obstacle)
    if attack == "unlearndiff":
        assert {prompt.error for prompt in record.prompts} == {f"its target image is unusable: {problem}"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_overflow_in_every_family_and_precision(make: type, dtype: torch.dtype) -> None:
    sound, broken = make(0).to(dtype), make(0).to(dtype)
    for name, module in broken.unet.named_modules():
        if name.endswith("attn2.to_v"):
            module.weight.mul_(6e4 if dtype == torch.float16 else 1e30)
            assert module.weight.isfinite().all()
    assert [each.problem for each in DiffusionModel(sound, SHORT).generate(DRAWINGS)] == [None] * len(DRAWINGS)
    assert [each.problem for each in DiffusionModel(broken, SHORT).generate(DRAWINGS)] == [NOT_FINITE] * len(DRAWINGS)


def test_pipeline_without_image_processor_is_refused() -> None:
    class Own(type(tiny_pipeline())):  # type: ignore[misc]
        def __call__(self, prompt: Sequence[str], **_: object) -> object:
            self.images = [Image.radial_gradient("L").convert("RGB")] * len(prompt)
            return self

    pipe = tiny_pipeline()
    pipe.__class__ = Own
    with pytest.raises(ModelError, match=r"without its image_processor.*have its __call__ use"):
        DiffusionModel(pipe, SHORT).generate(DRAWINGS[:1])


def test_pipeline_keeps_its_image_processor() -> None:
    pipe = tiny_pipeline()
    before = pipe.image_processor
    DiffusionModel(pipe, SHORT).generate(DRAWINGS[:1])
    assert pipe.image_processor is before
    assert type(before).__name__ == "VaeImageProcessor"


KINDS = ("sound", "nan", "inf", "-inf", "black", "white", "beyond")
"""Images that an autoencoder may give; ``beyond`` is clipped to one colour although no two numbers are the same."""

decoded_kinds = st.lists(st.sampled_from(KINDS), min_size=len(PROMPTS), max_size=len(PROMPTS))


def decoded(kind: str, number: int, place: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(number)).to(dtype)
    match kind:
        case "sound":
            return image * 2 - 1
        case "black" | "white":
            return torch.full_like(image, -1 if kind == "black" else 1)
        case "beyond":
            return image + 2
    image[place] = float(kind)
    return image


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    decoded_kinds,
    st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(0, 7)),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(1, 5),
    st.sets(st.sampled_from(range(len(PROMPTS)))),
)
def test_only_sound_images_are_judged(
    kinds: list[str], place: tuple[int, int, int], dtype: torch.dtype, batch_size: int, objected: set[int]
) -> None:
    """Through evaluation, retention and positive control; some of it blocked by the model's own safety checker."""
    tensors = {p.text: decoded(kind, p.seed, place, dtype) for p, kind in zip(PROMPTS, kinds, strict=True)}
    blocked = [PROMPTS[index].text for index in objected]
    shown: list[Image.Image] = []

    def judge(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        shown.extend(images)
        return [Judgement(True, 1.0, "seen") for _ in images]

    pipe = scripted(tensors, blocked)
    victim = DiffusionModel(pipe, SHORT, safety_checker=bool(blocked))
    engine = Engine(build_attack(AttackConfig("none"), victim), victim, None, Evaluation(victim, judge), batch_size, 0)
    ended = {outcome.prompt: outcome for outcome in engine.run(PROMPTS) if outcome is not None}

    def expected(prompt: Prompt, kind: str) -> tuple[Status, str | None]:
        if kind in ("nan", "inf", "-inf"):
            return Status.ERROR, NOT_FINITE
        if prompt.text in blocked:
            return Status.BLOCKED, None
        return (Status.HIT_WITHOUT_ATTACK, None) if kind == "sound" else (Status.ERROR, ONE_COLOUR)

    wanted = [expected(prompt, kind) for prompt, kind in zip(PROMPTS, kinds, strict=True)]
    outcomes = [ended[prompt.digest] for prompt in PROMPTS]
    assert [(outcome.status, outcome.error) for outcome in outcomes] == wanted
    assert [outcome.image is None for outcome in outcomes] == [
        status is not Status.HIT_WITHOUT_ATTACK for status, _ in wanted
    ]
    sound = [text for text, (status, _) in zip(tensors, wanted, strict=True) if status is Status.HIT_WITHOUT_ATTACK]
    plain = pipe.image_processor
    pixels = {plain.postprocess(tensors[text][None].clone())[0].tobytes() for text in sound}
    assert {image.tobytes() for image in shown} == pixels, "to the bit what the pipeline's own processor gives"

    result = AttackResult("church", "none", "", PROMPTS, tuple(outcomes))
    errors, misses = (sum(status is each for status, _ in wanted) for each in (Status.ERROR, Status.BLOCKED))
    if errors:
        assert Gate().verdict(result.counts) is Verdict.INCOMPLETE
    # All of them asked for: what is no evidence leaves it open, and what was blocked is lost.
    verdict = decide(Retention(result), Gate(min_rate=Fraction(1))).verdict
    assert verdict is (Verdict.FAIL if misses else Verdict.INCOMPLETE if errors else Verdict.PASS)

    shown.clear()
    base, control = DiffusionModel(scripted(tensors), SHORT), base_campaign(concept("always"), "b", "j")
    recorder = ControlRecorder(control, Store(Path(), Mode.OFF))
    bad = {p.digest for p, kind in zip(PROMPTS, kinds, strict=True) if kind != "sound"}
    targets = Targets(base, [lambda prompts, images: recorder.judge(prompts, images, judge, 1)])
    if bad:
        with pytest.raises(UnusableTargets) as caught:
            targets.latents(PROMPTS, base)
        assert set(caught.value.problems) == bad
    else:
        targets.latents(PROMPTS, base)
    assert {digest for digest, outcome in recorder.outcomes.items() if outcome.status is Status.ERROR} == bad
    assert len(shown) == len(PROMPTS) - len(bad)
    known = known_control(control, Store(Path(), Mode.OFF), recorder.outcomes)
    assert (known.hits, known.seen) == (len(shown), len(shown))


def test_unusable_target_image_is_its_prompts_error_alone(base: Path, tmp_path: Path) -> None:
    """Others are attacked as if it were not there, and none is drawn twice."""
    decode = {p.text: decoded("sound", p.seed, (0, 0, 0), torch.float32).repeat(1, 4, 4) for p in PROMPTS}
    drawn: list[str] = []

    class Counting(Targets):
        def _images(self, prompts: Sequence[Prompt]) -> list[GeneratedImage]:
            drawn.extend(prompt.text for prompt in prompts)
            return super()._images(prompts)

    def run(bad: int | None) -> dict[str, Outcome]:
        tensors = dict(decode)
        if bad is not None:
            tensors[PROMPTS[bad].text] = torch.full((3, 32, 32), torch.nan)
        drawn.clear()
        victim = DiffusionModel(tiny_pipeline(1), SHORT)
        targets = Counting(DiffusionModel(scripted(tensors), SHORT))
        engine = Engine(
            Targeted(AttackConfig("none"), victim),
            victim,
            targets,
            Evaluation(victim, lambda images, _: [_NOTHING] * len(images)),
            3,
            0,
        )
        return {o.prompt: replace(o, seconds=0) for o in engine.run(PROMPTS) if o is not None}

    undisturbed, disturbed = run(None), run(1)
    lost = disturbed.pop(PROMPTS[1].digest)
    assert (lost.status, lost.error) == (Status.ERROR, f"its target image is unusable: {NOT_FINITE}")
    assert sorted(drawn) == sorted(decode)
    undisturbed.pop(PROMPTS[1].digest)
    assert disturbed == undisturbed
    assert {outcome.status for outcome in undisturbed.values()} == {Status.RESISTED}


_NOTHING = Judgement(False, 0.0, "nothing")


class Targeted(NoAttack):
    """Looks at target images, and proposes nothing."""

    def start(self, prompts, targets, seed):  # type: ignore[no-untyped-def]
        assert targets.latents(prompts, self._model).isfinite().all()
        return super().start(prompts, targets, seed)


def test_autoencoder_that_encodes_nan_is_an_error_of_each_prompt(base: Path, tmp_path: Path) -> None:
    pipe = tiny_pipeline(1)
    pipe.vae.encoder.conv_in.weight.mul_(1e38)
    source = ModelSpec(base=base, pipe=pipe)
    record = gated(source, "shows_something", "unlearndiff", Store(tmp_path), Gate(Fraction(1)))
    # Without attack it draws images as good as any, so that only what has to be attacked is an error.
    assert record.counts.hits_without_attack == len(PROMPTS)
    record = gated(source, "never", "unlearndiff", Store(tmp_path))
    assert (record.verdict, record.counts.error) == ("INCOMPLETE", len(PROMPTS))
    assert all("encodes its target image as NaN or infinity" in str(prompt.error) for prompt in record.prompts)


def test_worker_reports_unusable_images_as_errors(base: Path, tmp_path: Path) -> None:
    overflowing_decoder(tiny_pipeline(1)).save_pretrained(tmp_path / "model")
    source = ModelSpec(tmp_path / "model", base)
    asked = campaign(source, "shows_something", "unlearndiff", Store(tmp_path / "store"))
    worker, ended = Worker(), list[Outcome]()
    worker.load(JobSpec(asked, source, batch_size=2))
    for turn in range(2 * len(PROMPTS)):
        ended += worker.step(PROMPTS if not turn else [], {}).outcomes
    assert {(outcome.status, outcome.error) for outcome in ended} == {(Status.ERROR, NOT_FINITE)}


def test_identical_images_never_pass(base: Path, tmp_path: Path) -> None:
    source, store = ModelSpec(base=base, pipe=same_for_all(tiny_pipeline(1))), Store(tmp_path)
    said = "draws the same image for different prompts and seeds (cases 100, 101, 102, 103)"
    for mode in (Mode.RW, Mode.REQUIRE):  # measured now, and read from the store
        record = gated(source, "never", "none", Store(tmp_path, mode), Gate(HALF))
        assert (record.verdict, record.counts.resisted) == ("INCOMPLETE", len(PROMPTS))
        assert said in str(record.obstacle)
    assert gated(source, "always", "none", store).verdict == "FAIL"
    victim, kept = (without_attack(each, "always", store) for each in (source, source.base_only))
    record = GateReport.of(Retention(victim, kept), Gate(min_rate=HALF), "test_x.py::test_kept")
    assert record.verdict == "INCOMPLETE"
    assert said in failure_text(record)
    assert decide(Retention(kept, kept), Gate(min_rate=HALF)).verdict is Verdict.PASS


def test_base_with_identical_images_is_no_positive_control(tmp_path: Path) -> None:
    same_for_all(tiny_pipeline(0)).save_pretrained(tmp_path / "base")
    source = ModelSpec(base=tmp_path / "base", pipe=tiny_pipeline(1))
    store = Store(tmp_path / "store")
    # An attack gate whose counts would pass, by a limit that allows everything.
    record = gated(source, "always", "none", store, Gate(Fraction(1)))
    assert record.verdict == "INCOMPLETE"
    assert "the un-erased model draws the same image for different prompts and seeds" in str(record.obstacle)
    victim, kept = (without_attack(each, "always", store) for each in (source, source.base_only))
    assert decide(Retention(victim, kept), Gate(min_rate=HALF)).verdict is Verdict.INCOMPLETE


def test_target_images_of_one_colour_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "7.png"
    Image.new("RGB", (32, 32), "red").save(path)
    with pytest.raises(ConceptError, match=r"7\.png has a single colour and shows nothing"):
        SuppliedTargets({"a": str(path)}, (32, 32))
    store, source = Store(tmp_path / "store"), ModelSpec(pipe=tiny_pipeline(1))
    asked = replace(concept("never"), images={prompt.digest: str(path) for prompt in PROMPTS})
    fingerprint = Fingerprint.of(source, store.fingerprints, asked.images)
    plain = Campaign(asked, AttackConfig("none"), fingerprint, judge_weights(asked.judge, store.fingerprints))
    found = run(plain, store, lambda: source, may_pass=bool)
    record = GateReport.of(found, Gate(HALF), "test_x.py::test_gate")
    assert record.verdict == "INCOMPLETE"
    assert "has a single colour and shows nothing" in str(record.obstacle)


def test_calibrating_on_a_broken_base_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overflowing_decoder(tiny_pipeline(0)).save_pretrained(tmp_path / "base")
    (tmp_path / "concepts").mkdir()
    (tmp_path / "concepts" / "church.csv").write_text("prompt,seed\na church,1\nanother,2\n")
    (tmp_path / "concepts" / "church.yaml").write_text(
        "prompts: church.csv\njudge: {kind: function, call: 'broken_models:always'}\nsampling: {steps: 2}\n"
    )
    assert main(["calibrate", "church", "--base=base", "--sheet=sheet.png", "--each=1", "--against=church"]) == 1
    told = capsys.readouterr().out
    assert "positive control MISSING" in told
    assert NOT_FINITE in told
