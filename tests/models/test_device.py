"""Arithmetic, batches and memory: told by name, held while a victim is attacked, single precision where it counts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PROMPTS, shown, tiny_pipeline

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.losses import LossQuery, denoising_losses, gradients
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.device import BATCH_SIZE, PRECISIONS, WEIGHTS, resolve_precision
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest, Judgement
from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.models import device as arithmetic
from pytest_unlearndiff.models.device import BATCH, MOST, SPARED, MemoryMeter, fitting, in_batches
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.loading import weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.runs.engine import Engine

SHORT = Sampling(steps=2)


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "float32"),
        ("mps", "float32"),
        ("cuda", "tf32"),
        ("cuda:1", "tf32"),
        ("cudax", "float32"),
        ("auto", "auto"),
    ],
)
def test_auto_precision_by_device(device: str, precision: str) -> None:
    assert resolve_precision("auto", device) == precision
    assert all(resolve_precision(name, device) == name for name in PRECISIONS if name != "auto")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps", "cuda:1", "auto"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_type_does_not_depend_on_the_device(device: str, precision: str) -> None:
    """They are in the key, which is asked for before the device is known."""
    assert WEIGHTS[resolve_precision(precision, device)] == WEIGHTS[precision]


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("before", [("highest", False), ("high", True)])
def test_matmul_precision_covers_convolutions(name: str, before: tuple[str, bool]) -> None:
    """Torch multiplies in TensorFloat-32 there unless it is told not to."""
    cudnn, wanted = torch.backends.cudnn, {"float32": ("highest", False), "tf32": ("high", True)}
    torch.set_float32_matmul_precision(before[0])
    cudnn.allow_tf32 = before[1]
    with arithmetic.matmul_precision(name):
        assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32) == wanted.get(name, before)
    assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32) == before


@pytest.mark.usefixtures("_as_before")
def test_tensor_float_only_while_an_engine_works() -> None:
    torch.set_float32_matmul_precision("highest")
    seen: list[str] = []

    def judge(drawings: list[GenerationRequest]) -> list[Evaluated]:
        seen.append(torch.get_float32_matmul_precision())
        return [Evaluated(Judgement(False, 0.0, ""))] * len(drawings)

    for name in PRECISIONS[1:]:
        around, victim = partial(arithmetic.matmul_precision, name), SimpleNamespace(forwards_per_image=1, tokens=len)
        engine = Engine(build_attack(AttackConfig("none"), victim), victim, None, judge, 2, 0, around)  # type: ignore[arg-type]
        assert len([outcome for outcome in engine.run(PROMPTS) if outcome]) == len(PROMPTS)
        stopped = engine.run(PROMPTS)
        next(stopped)
        assert torch.get_float32_matmul_precision() == "highest", "others may compute before it goes on"
        stopped.close()
        assert torch.get_float32_matmul_precision() == "highest"
        assert set(seen) == {"high" if name == "tf32" else "highest"}
        seen.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "pipe"
    tiny_pipeline(1).save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_weights_type_and_attention(name: str, dtype: torch.dtype, folder: Path) -> None:
    pipe = load_pipeline(folder, dtype=name)
    assert {pipe.unet.dtype, pipe.text_encoder.dtype, pipe.vae.dtype} == {dtype}
    # Both libraries choose scaled_dot_product_attention by themselves; where they stop, it has to be asked for.
    assert {type(each).__name__ for each in pipe.unet.attn_processors.values()} == {"AttnProcessor2_0"}
    assert pipe.text_encoder.config._attn_implementation == "sdpa"


def probes(victim: DiffusionModel, count: int = 4) -> list[LossQuery]:
    generator, shape = torch.Generator().manual_seed(0), victim.latent_shape
    slots = victim.vocabulary.slots("a church", 3, "prefix")
    return [
        LossQuery(
            slots,
            victim.vocabulary.typeable[[5 + i, 80, 300]].tolist(),
            torch.randn(shape, generator=generator),
            torch.randn(shape, generator=generator),
            490,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 256.0)])
def test_gradients_in_half_precision(
    dtype: torch.dtype, scale: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = DiffusionModel(load_pipeline(folder), SHORT)
    half = DiffusionModel(load_pipeline(folder, dtype=str(dtype).removeprefix("torch.")), SHORT)
    assert [model.gradient_scale(probes(model)[0].x0.numel()) for model in (single, half)] == [1.0, scale]
    _, wanted = gradients(probes(single), single)
    _, found = gradients(probes(half), half)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.05 * wanted.norm()
    if scale > 1:
        # What the scale is for: latents of the real size make gradients so small that half precision loses them.
        monkeypatch.setattr(DiffusionModel, "gradient_scale", lambda *_: 2.0**-16)
        _, lost = gradients(probes(half), half)
        assert (lost - wanted).norm() > 0.05 * wanted.norm()


def test_errors_are_measured_in_as_many_rows_as_images_with_guidance_have(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = DiffusionModel(load_pipeline(folder), SHORT), list[int]()
    model.network.register_forward_pre_hook(lambda _, positional: rows.append(len(positional[0])))
    together = denoising_losses(probes(model, 10), model)
    model.generate([GenerationRequest("a church", 1, 5.0)])
    assert set(rows) == {2 * BATCH}
    rows.clear()
    monkeypatch.setattr(arithmetic, "_errors_per_sample", 1)
    torch.testing.assert_close(denoising_losses(probes(model, 10), model), together, atol=1e-6, rtol=1e-6)
    assert rows == [BATCH] * 3


def test_channels_last_changes_no_number(folder: Path) -> None:
    plain, laid = load_pipeline(folder), load_pipeline(folder)
    arithmetic.channels_last(laid)
    assert laid.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert copy.deepcopy(laid.unet).conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert weights_digest(laid) == weights_digest(plain)
    drawings = [GenerationRequest("a church", 1, 5.0)]
    left, right = (DiffusionModel(pipe, SHORT) for pipe in (plain, laid))
    latents = [victim.encode_images(shown(left.generate(drawings))) for victim in (left, right)]
    torch.testing.assert_close(*latents, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(probes(left), left), gradients(probes(right), right), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_missing_device_or_arithmetic_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="--unlearndiff-device=cuda:1: torch finds no CUDA device"):
        load_pipeline(folder, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ModelError, match="give --unlearndiff-dtype=float16"):
        load_pipeline(folder, device="cuda", dtype="bfloat16")


def test_channels_last_on_cuda_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pipeline that only says that it moved, as there is no such device in most places this runs."""
    laid: list[Any] = []
    monkeypatch.setattr(arithmetic, "_check_cuda", lambda *_: None)
    monkeypatch.setattr(arithmetic, "channels_last", laid.append)
    for device, dtype, wanted in (("cuda", torch.float16, 1), ("cuda", torch.float32, 0), ("cpu", torch.bfloat16, 0)):
        pipe = tiny_pipeline(1).to(dtype=dtype)
        monkeypatch.setattr(pipe, "to", lambda _, pipe=pipe: pipe)
        laid.clear()
        assert arithmetic.to_device(pipe, device) is pipe
        assert len(laid) == wanted


def test_compiling_leaves_the_pipeline_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_modules: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled_modules.append(module) or copy.copy(module))
    pipe = tiny_pipeline(1)
    network = pipe.unet
    DiffusionModel(pipe, SHORT)
    assert compiled_modules == []
    compiled = DiffusionModel(pipe, SHORT, compiled=True)
    assert compiled_modules == [network]
    assert compiled._pipe.unet is not network is pipe.unet


@pytest.mark.slow  # a minute or more: torch traces the network five times, forwards and backwards
def test_compiled_victim_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for a device, but with no compiler behind it, which takes minutes."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", partial(real, backend="eager"))
    pipe, drawings = tiny_pipeline(1), [GenerationRequest("a church", 1, 5.0)]
    network, guidance = pipe.unet, (defense("safe-latent-diffusion", strength="max", concept="church", warmup="steps"),)
    plain, compiled = (DiffusionModel(pipe, SHORT, guidance, compiled=each) for each in (False, True))
    assert pipe.unet is network
    assert type(compiled._pipe.unet).__name__ == "OptimizedModule"
    for one, other in zip(gradients(probes(plain), plain), gradients(probes(compiled), compiled), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    (left,), (right,) = shown(plain.generate(drawings)), shown(compiled.generate(drawings))
    assert left.tobytes() == right.tobytes()
    assert not network._forward_hooks


@given(st.lists(st.integers(), max_size=4 * BATCH))
def test_batches_hold_every_item_once(items: list[int]) -> None:
    batches = list(in_batches(items))
    assert [item for count, part in batches for item in part[:count]] == items
    for count, part in batches:
        assert len(part) == BATCH
        assert part[count:] == [part[count - 1]] * (BATCH - count)


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "per_prompt", "batch_size", "wanted"),
    [
        (0, GIB, 8, 8),
        (-GIB, GIB, 8, 8),
        (10 * GIB, GIB, 8, 16),
        (10 * GIB, 3 * GIB, 1, 3),
        (10 * GIB, 0, 8, MOST),
        (1000 * GIB, GIB, 8, MOST),
        (10 * GIB, GIB, 100, 100),
    ],
)
def test_fitting_prompts(free: int, per_prompt: int, batch_size: int, wanted: int) -> None:
    assert fitting(free, per_prompt, batch_size) == wanted


@given(st.integers(-(2**40), 2**40), st.integers(0, 2**36), st.integers(1, 200))
def test_fitting_prompts_have_room(free: int, per_prompt: int, batch_size: int) -> None:
    count = fitting(free, per_prompt, batch_size)
    assert batch_size <= count <= max(MOST, batch_size)
    assert (count - batch_size) * per_prompt <= max(free, 0) * (1 - SPARED) + per_prompt * 1e-9


def test_memory_of_a_cpu() -> None:
    assert MemoryMeter(torch.device("cpu")).fitting(8, BATCH_SIZE) == BATCH_SIZE


def test_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 GiB before, 12 at the peak with 8 prompts: one each. 16 reserved, 36 beyond: 40 free, 32 of them used."""
    said = {"memory_allocated": 4, "max_memory_allocated": 12, "memory_reserved": 16}
    for name, gib in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, gib=gib: gib * GIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (36 * GIB, 80 * GIB))
    assert MemoryMeter(torch.device("cuda")).fitting(8, 8) == 8 + 32
    # With 2 prompts that took the same, each takes 4 GiB, and the other 6 have not been paid for.
    assert MemoryMeter(torch.device("cuda")).fitting(2, 8) == 2 + 8
    assert MemoryMeter(torch.device("cuda")).fitting(2, 16) == 16
