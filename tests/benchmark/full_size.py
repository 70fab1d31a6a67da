"""The attack at Stable Diffusion 1.4's size on a CPU: ``python -m benchmark.full_size`` in ``tests``.

Builds a pipeline of that shape with random weights and CLIP's own vocabulary, and prints the time of attack steps,
literal and in lanes, of a short evaluation, and the peak of memory. The target latent is random too: nothing here says
how well an attack does. The vocabulary's merges are in the package open_clip_torch (``pip install --no-deps
open_clip_torch``; it need not be importable).
"""

from __future__ import annotations

import argparse
import gzip
import resource
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.unlearndiff import SimplexAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt, Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.device import BATCH, halve_batches
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

from .contenders import provenance
from .literal import DECAY, RATE, Literal

T = TypeVar("T")
MERGES = 49152 - 256 - 2
PROMPT = Prompt("a photo of a church on a hill", 0, 7.5, 0)


def merges(path: Path | None) -> list[tuple[str, str]]:
    """CLIP's byte-pair merges, from a file or from where open_clip_torch is installed."""
    if path is None:
        try:
            found = [file for file in files("open_clip_torch") or () if file.name == "bpe_simple_vocab_16e6.txt.gz"]
        except PackageNotFoundError:
            raise SystemExit("pip install --no-deps open_clip_torch, or give --merges FILE") from None
        path = Path(str(found[0].locate()))
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    return [cast(tuple[str, str], tuple(line.split())) for line in lines]


def tokenizer(pairs: Sequence[tuple[str, str]]) -> Any:
    """CLIP's tokenizer: 256 bytes, the same ending a word, merges, two special tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = range(256, 256 + 256 - len(printable))  # bytes that cannot be printed have letters from here on
    letters = [chr(code) for code in [*printable, *others]]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, pairs)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=list(pairs), model_max_length=77)


def pipeline(pairs: Sequence[tuple[str, str]]) -> Any:
    """Stable Diffusion 1.4's shape, random weights."""
    torch.manual_seed(0)
    tokens = tokenizer(pairs)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokens),
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                bos_token_id=tokens.bos_token_id,
                eos_token_id=tokens.eos_token_id,
                pad_token_id=tokens.pad_token_id,
            )
        ),
        tokenizer=tokens,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        module.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class RandomTargets(Targets):
    """Latents of no image."""

    def latents(self, prompts: Sequence[Prompt], victim: DiffusionModel) -> torch.Tensor:
        """Standard normal latents (B, 4, 64, 64)."""
        return torch.randn((len(prompts), 4, 64, 64), generator=torch.Generator().manual_seed(0))


def timed(what: str, work: Callable[[], T]) -> T:
    """Do it, and print how long it took and how much memory this process has had at most."""
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {what} | {wall:.1f} | {cpu:.1f} | {peak:.1f} |", flush=True)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", type=Path, help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--batch", type=int, default=1, choices=(1, 2, 4), help="samples in one call of a network")
    parser.add_argument("--steps", type=int, default=2, help="attack steps, and LMS steps of the evaluation")
    args = parser.parse_args()
    for _ in range({4: 0, 2: 1, 1: 2}[args.batch]):
        assert halve_batches(), BATCH
    print("| what | seconds | CPU seconds | GiB at most so far |", "|---|---|---|---|", sep="\n")
    pipe = timed("build the pipeline", lambda: pipeline(merges(args.merges)))
    victim = DiffusionModel(pipe, Sampling(steps=args.steps))
    literal = Literal(pipe, pipe, lambda images: [], 5, args.steps)
    (state,) = RandomTargets(victim).latents([PROMPT], victim)[:, None]
    u = torch.full((5, len(literal.table)), 1 / len(literal.table))
    adam = torch.optim.Adam([u], lr=RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(0)
    for n in range(args.steps):
        timed(f"literal step {n + 1}", lambda: literal.step(u, adam, PROMPT, state, 500, generator))
    search = cast(SimplexAttack, build_attack(AttackConfig(schedule="paper", slots=5), victim))
    states = search.start([PROMPT] * args.batch, RandomTargets(victim), 0)
    for n in range(args.steps):
        timed(f"step {n + 1} of {args.batch} prompts", lambda: search._step(states))
    drawing = GenerationRequest(PROMPT.text, PROMPT.seed, PROMPT.guidance)
    timed(f"evaluation of {args.steps} LMS steps", lambda: victim.generate([drawing]))
    print(f"vocabulary: {len(pipe.tokenizer):,}, typeable: {len(victim.vocabulary.typeable):,}")
    print(*(f"{name}: {value}" for name, value in provenance().items()), sep="\n")


if __name__ == "__main__":
    main()
