"""Everything that acts on a pipeline object as it draws is hashed, or a reason why no hash stands for it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate.hooks
import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from peft import LoraConfig
from tiny import tiny_pipeline, tiny_xl
from torch.nn.utils import prune
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.inference_behavior import inference_behavior
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.store.key import Fingerprints

from .test_safety_checker import checked_pipeline

MINE = __name__


class Steer(torch.nn.Module):
    """A module of a user's project: a hook, a network, an attention processor."""

    def forward(self, *given: Any, **named: Any) -> Any:
        return None


class Hook:
    def __call__(self, *given: Any) -> None:
        return None


class Processor:
    def __call__(self, attn: Any, *given: Any, **named: Any) -> Any:
        return AttnProcessor2_0()(attn, *given, **named)


class Pipeline(StableDiffusionPipeline):  # type: ignore[misc]
    pass


class UNet(UNet2DConditionModel):  # type: ignore[misc]
    pass


class Scheduler(DDIMScheduler):  # type: ignore[misc]
    pass


class Tokenizer:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: Any, **named: Any) -> Any:
        return self.tokenizer(text, **named)


class Offload(accelerate.hooks.ModelHook):  # type: ignore[misc]
    pass


class Prompt(str):
    pass


def forward(self: Any, *given: Any, **named: Any) -> Any:
    return type(self).forward(self, *given, **named)


def backend(graph: Any, inputs: Any) -> Any:
    return graph.forward


def attention(pipe: Any) -> Any:
    return pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1


def classed(thing: Any, kind: type) -> None:
    thing.__class__ = kind


# What a user's project does to a pipeline, and what is said of it.
REASONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "forward hook": (
        lambda p: p.unet.mid_block.register_forward_hook(Steer()),
        f"forward hook on unet.mid_block (<{MINE}.Steer>)",
    ),
    "forward hook that is bound": (
        lambda p: p.text_encoder.register_forward_hook(functools.partial(Hook(), 1)),
        f"forward hook on text_encoder (<{MINE}.Hook>)",
    ),
    "pre-hook": (
        lambda p: p.vae.decoder.register_forward_pre_hook(Hook()),
        f"forward pre-hook on vae.decoder (<{MINE}.Hook>)",
    ),
    "backward hook, which an attack's gradients pass": (
        lambda p: p.unet.conv_in.register_full_backward_hook(Hook()),
        f"backward hook on unet.conv_in (<{MINE}.Hook>)",
    ),
    "hooks everywhere": (
        lambda p: [module.register_forward_hook(Hook()) for module in p.unet.down_blocks[0].resnets[0].modules()],
        f"forward hook on unet.down_blocks.0.resnets.0 and 7 more (<{MINE}.Hook>)",
    ),
    "attention processors": (
        lambda p: p.unet.set_attn_processor(Processor()),
        "attention processor of unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1 and 7 more "
        f"(<{MINE}.Processor>)",
    ),
    "attention processor with weights": (
        lambda p: attention(p).set_processor(Steer()),
        f"attention processor of unet.mid_block.attentions.0.transformer_blocks.0.attn1 (<{MINE}.Steer>)",
    ),
    "replaced method of a network": (
        lambda p: setattr(p.unet, "forward", types.MethodType(forward, p.unet)),
        f"replaced method unet.forward (<{MINE}.forward>)",
    ),
    "replaced method of the pipeline": (
        lambda p: setattr(p, "encode_prompt", functools.partial(forward, p)),
        f"replaced method pipe.encode_prompt (<{MINE}.forward>)",
    ),
    "replaced method of the scheduler": (
        lambda p: setattr(p.scheduler, "step", Hook()),
        f"replaced method scheduler.step (<{MINE}.Hook>)",
    ),
    "subclass of the pipeline": (
        lambda p: Pipeline(**p.components, requires_safety_checker=False),
        f"class of the pipeline (<{MINE}.Pipeline>)",
    ),
    "subclass of a network": (lambda p: classed(p.unet, UNet), f"class of unet (<{MINE}.UNet>)"),
    "subclass of the scheduler": (
        lambda p: classed(p.scheduler, Scheduler),
        f"class of scheduler (<{MINE}.Scheduler>)",
    ),
    "tokenizer": (
        lambda p: setattr(p, "tokenizer", Tokenizer(p.tokenizer)),
        f"class of tokenizer (<{MINE}.Tokenizer>)",
    ),
    "layer": (
        lambda p: setattr(p.unet.mid_block, "attentions", torch.nn.ModuleList([Steer()])),
        f"class of unet.mid_block.attentions.0 (<{MINE}.Steer>)",
    ),
    "extra component": (
        lambda p: p.register_modules(sae=torch.nn.Linear(2, 2)),
        "extra component sae (<torch.nn.modules.linear.Linear>)",
    ),
    "attribute of the pipeline": (lambda p: setattr(p, "sae", Hook()), f"attribute pipe.sae (<{MINE}.Hook>)"),
    "attribute of a network": (
        lambda p: setattr(p.unet, "steer", {"at": [Hook()]}),
        f"attribute unet.steer.at (<{MINE}.Hook>)",
    ),
    "value that only looks plain": (
        lambda p: setattr(p, "avoid", Prompt("church")),
        f"attribute pipe.avoid (<{MINE}.Prompt>)",
    ),
    "network beside the tree": (
        lambda p: setattr(p.unet, "steer", [Steer()]),
        f"class of unet.steer (<{MINE}.Steer>)",
    ),
    "weights that are computed": (
        lambda p: torch.nn.utils.parametrizations.weight_norm(p.unet.conv_in),
        "class of unet.conv_in (<torch.nn.utils.parametrize.ParametrizedConv2d>)",
    ),
    "weights that are not there": (
        lambda p: p.unet.conv_in.to("meta"),
        "tensor unet.conv_in.weight and 1 more (<torch.nn.parameter.Parameter>)",
    ),
    "backend of torch.compile": (
        lambda p: setattr(p, "unet", torch.compile(p.unet, backend=backend)),
        f"torch.compile backend of unet (<{MINE}.backend>)",
    ),
    "backend of compile": (
        lambda p: p.unet.compile(backend=backend),
        f"torch.compile backend of unet (<{MINE}.backend>)",
    ),
    "call that seems compiled": (
        lambda p: setattr(p.unet, "_compiled_call_impl", Hook()),
        f"replaced method unet._compiled_call_impl (<{MINE}.Hook>)",
    ),
    "hook on what is compiled": (
        lambda p: (setattr(p, "unet", torch.compile(p.unet)), p.unet.register_forward_hook(Hook())),
        f"forward hook on unet (<{MINE}.Hook>)",
    ),
    "hook of accelerate": (
        lambda p: accelerate.hooks.add_hook_to_module(p.unet, Offload()),
        f"attribute unet._hf_hook (<{MINE}.Offload>)",
    ),
}


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, as it compiles
@pytest.mark.parametrize("kind", REASONS)
def test_own_code_is_a_reason(kind: str) -> None:
    act, said = REASONS[kind]
    made = act(pipe := tiny_pipeline())
    found = inference_behavior(made if isinstance(made, Pipeline) else pipe)
    assert found.reasons == (said,)


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


@contextmanager
def hooked() -> Iterator[None]:
    handle = torch.nn.modules.module.register_module_forward_hook(Hook())
    yield
    handle.remove()


@contextmanager
def attending() -> Iterator[None]:
    ALL_ATTENTION_FUNCTIONS.register("mine", forward)
    yield
    del ALL_ATTENTION_FUNCTIONS._global_mapping["mine"]


_UNET = "replaced method diffusers.models.unets.unet_2d_condition.UNet2DConditionModel.forward"


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (lambda: patched(UNet2DConditionModel, "forward", forward), f"{_UNET} (<{MINE}.forward>)"),
        (lambda: patched(UNet2DConditionModel, "forward", torch.no_grad()(forward)), _UNET),
        (lambda: patched(UNet2DConditionModel, "forward", Hook()), f"{_UNET} (<{MINE}.Hook>)"),
        (
            lambda: patched(
                UNet2DConditionModel, "forward", functools.wraps(UNet2DConditionModel.forward)(lambda *given: None)
            ),
            _UNET,
        ),
        (
            lambda: patched(torch.nn.functional, "scaled_dot_product_attention", forward),
            f"replaced function torch.nn.functional.scaled_dot_product_attention (<{MINE}.forward>)",
        ),
        (
            lambda: patched(
                diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion, "rescale_noise_cfg", forward
            ),
            "replaced function diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion.rescale_noise_cfg",
        ),
        (hooked, f"forward hook on every module (<{MINE}.Hook>)"),
        (attending, f"attention function 'mine' of transformers (<{MINE}.forward>)"),
    ],
)
def test_patched_library_is_a_reason(around: Callable[[], Any], said: str) -> None:
    with around():
        (reason,) = inference_behavior(tiny_pipeline()).reasons
    assert reason.startswith(said)
    assert inference_behavior(tiny_pipeline()).reasons == ()


def _lora(pipe: Any, *, on: bool = True) -> None:
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k"], init_lora_weights=False))
    if not on:
        pipe.unet.disable_adapters()


# What is hashed: each draws other images than every other.
HASHED: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda p: None,
    "weights": lambda p: p.unet.conv_in.weight.add_(1),
    "scheduler's class": lambda p: setattr(p, "scheduler", PNDMScheduler.from_config(p.scheduler.config)),
    "scheduler's settings": lambda p: setattr(
        p, "scheduler", DDIMScheduler.from_config(p.scheduler.config, beta_end=0.02)
    ),
    "scheduler's tables": lambda p: p.scheduler.alphas_cumprod.mul_(0.9),
    "attention processors": lambda p: p.unet.set_attn_processor(AttnProcessor()),
    "another attention's size": lambda p: setattr(attention(p), "scale", 0.1),
    "buffer outside the state dict": lambda p: p.text_encoder.embeddings.position_ids.copy_(
        p.text_encoder.embeddings.position_ids.flip(1)
    ),
    "another such buffer": lambda p: p.unet.register_buffer("steer", torch.ones(2), persistent=False),
    "tensor as an attribute": lambda p: setattr(p.unet, "steer", torch.ones(2)),
    "network in a list": lambda p: setattr(p.unet, "steer", [torch.nn.Identity()]),
    "strength": lambda p: setattr(p, "strength", 0.5),
    "another strength": lambda p: setattr(p, "strength", 0.6),
    "FreeU": lambda p: p.enable_freeu(0.9, 0.2, 1.2, 1.4),
    "tiling": lambda p: p.vae.enable_tiling(),
    "token": lambda p: p.tokenizer.add_tokens(["zz"]),
    "pruned": lambda p: prune.l1_unstructured(p.unet.conv_in, "weight", amount=0.2),
    "method of another part": lambda p: setattr(p.unet.mid_block, "forward", p.unet.forward),
    "LoRA": _lora,
    "LoRA that is off": functools.partial(_lora, on=False),
    "type": lambda p: p.unet.half(),
}


def test_settings_are_hashed() -> None:
    found = {}
    for kind, act in HASHED.items():
        act(pipe := tiny_pipeline())
        found[kind] = inference_behavior(pipe)
    assert {kind: behavior.reasons for kind, behavior in found.items()} == dict.fromkeys(HASHED, ())
    digests = [behavior.digest for behavior in found.values()]
    twins = [kind for kind, behavior in found.items() if digests.count(behavior.digest) > 1]
    assert twins == []


SAME: dict[str, Callable[[Any], Any]] = {
    "made again": lambda p: None,
    "drawn and attacked": lambda p: (
        DiffusionModel(p, Sampling(steps=2, scheduler="lms")).encode_prompts(["a church"]),
        DiffusionModel(p, Sampling(steps=2, scheduler="own")).generate([GenerationRequest("a church", 1, 5.0)]),
    ),
    "drawn by itself": lambda p: p("a church", num_inference_steps=1, output_type="np"),
    "compiled": lambda p: setattr(p, "unet", torch.compile(p.unet)),
    "compiled in place": lambda p: p.unet.compile(),
    "trained": lambda p: p.unet.train().requires_grad_(True),
    "channels last": lambda p: p.unet.to(memory_format=torch.channels_last),
    "a method that it has anyway": lambda p: setattr(p.unet, "forward", p.unet.forward),
    "a hook that was taken off": lambda p: p.unet.register_forward_hook(Hook()).remove(),
}


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, as it compiles
@pytest.mark.parametrize("kind", SAME)
def test_irrelevant_differences_have_the_same_hash(kind: str, make: Callable[[], Any]) -> None:
    SAME[kind](pipe := make())
    found = inference_behavior(pipe)
    assert found == inference_behavior(make())
    assert found.reasons == ()


@pytest.mark.parametrize("name", sorted(kind.__name__ for kind in DDIMScheduler().compatibles))
@pytest.mark.filterwarnings("ignore")
def test_used_scheduler_has_the_same_hash(name: str) -> None:
    if name == "DPMSolverSDEScheduler":
        pytest.skip("needs torchsde")
    if name == "DPMSolverSinglestepScheduler":
        pytest.skip("changes its own configuration as it draws")
    pipe = tiny_pipeline()
    # As Stable Diffusion 1.4's: without it, PNDM cannot draw so few steps.
    more = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **more)
    before = inference_behavior(pipe)
    pipe("a church", num_inference_steps=4, output_type="np")
    assert inference_behavior(pipe) == before
    assert before.reasons == ()


def test_reloaded_pipeline_has_the_same_hash(tmp_path: Path) -> None:
    tiny_xl(1).save_pretrained(tmp_path)
    one, two = (diffusers.StableDiffusionXLPipeline.from_pretrained(tmp_path) for _ in range(2))
    assert inference_behavior(one) == inference_behavior(two)


def test_safety_checker_counts_where_it_is_tested() -> None:
    def found(pipe: Any) -> list[Any]:
        return [inference_behavior(pipe, safety_checker=checked) for checked in (False, True)]

    pipe = checked_pipeline(1)
    plain, checked = found(pipe)
    assert plain == inference_behavior(tiny_pipeline(1))
    assert not checked.reasons
    pipe.safety_checker.register_forward_hook(Hook())
    assert found(pipe)[0] == plain
    assert found(pipe)[1].reasons == (f"forward hook on safety_checker (<{MINE}.Hook>)",)


def test_scheduler_is_in_the_key() -> None:
    """With ``sampling: {scheduler: own}`` it draws, and two may have the same configuration."""

    def key(pipe: Any) -> Fingerprint:
        return Fingerprint.of(ModelSpec(pipe=pipe), Fingerprints())

    HASHED["scheduler's class"](other := tiny_pipeline())
    assert key(tiny_pipeline()) == key(tiny_pipeline())
    assert key(tiny_pipeline()).victim != key(other).victim


def test_version_completes_the_fingerprint() -> None:
    plain, steered = tiny_pipeline(), tiny_pipeline()
    steered.unet.register_forward_hook(Hook())

    def key(pipe: Any, version: str = "", version_of: str = "") -> Fingerprint:
        return Fingerprint.of(ModelSpec(pipe=pipe, version=version, version_of=version_of), Fingerprints())

    assert key(plain).complete
    assert not key(plain).unkept
    assert not key(steered).complete
    assert f"no hash stands for forward hook on unet (<{MINE}.Hook>): give it a version" in key(steered).unkept
    given = key(steered, "1")
    assert given.complete
    assert not given.unkept
    assert given == key(steered, "1")
    others = [key(plain), key(plain, "1"), key(steered), key(steered, "2"), key(steered, "1", "mine:pipe")]
    assert len({given.victim, *(other.victim for other in others)}) == 6
