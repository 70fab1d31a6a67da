"""Train the text encoder and the UNet together on the encoded pictures.

``python diffusion.py`` writes the pipeline of ``../model`` (``StableDiffusionPipeline.save_pretrained``). The loss
is the denoising error with min-SNR weights (Hang et al. 2023, arXiv 2303.09556), which learns shapes in fewer steps.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from catalog import COLOURS, OBJECTS, STYLES
from common import (
    JUDGE,
    MODEL,
    cosine,
    forget_paths,
    load_checkpoint,
    parser,
    record_figures,
    save_checkpoint,
    step_generator,
)
from compose import Labels, World
from diffusers import AutoencoderKL, DDIMScheduler, LMSDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from judge import normalise
from tqdm import tqdm
from transformers import AutoModelForImageClassification, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BATCH = 32
LEARNING_RATE = 1.2e-3
CAPTIONS = 6
SNR_CAP = 5.0
EMA = 0.9995


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build(tokenizer: CLIPTokenizer) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The two trained parts, at random weights."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=128,
        norm_num_groups=16,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return unet, text_encoder


def tokens(work: Path, labels: torch.Tensor, tokenizer: CLIPTokenizer, seed: int) -> torch.Tensor:
    """CAPTIONS captions for each picture, as ids (N, CAPTIONS, length)."""
    world, rng = World(work), np.random.default_rng(seed)
    texts = [world.caption(Labels(*row), rng) for row in labels.tolist() for _ in range(CAPTIONS)]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.view(len(labels), CAPTIONS, -1)


class Ema:
    """Exponential moving average of parameters, warmed up so that early steps do not linger."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.shadow = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, parameters: list[torch.nn.Parameter], step: int) -> None:
        """Move the average towards the parameters."""
        decay = min(EMA, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in parameters], 1 - decay)

    @torch.no_grad()
    def restart(self, parameters: list[torch.nn.Parameter], some: set[torch.nn.Parameter]) -> None:
        """Begin the average of some of the parameters anew."""
        for parameter, value in zip(parameters, self.shadow, strict=True):
            if parameter in some:
                value.copy_(parameter)

    @torch.no_grad()
    def copy_to(self, parameters: list[torch.nn.Parameter]) -> None:
        """Overwrite the parameters with their average."""
        for parameter, value in zip(parameters, self.shadow, strict=True):
            parameter.copy_(value)


def share_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Average the gradients of all workers."""
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def train(rank: int, args: Any, meeting: str) -> None:
    """Train as one of ``args.workers`` processes, or take up again where a killed run left off.

    Each worker computes its part of every batch with one thread: two processes of one thread learn faster on two
    cores than one process of two threads, and suffer less from whatever else the machine does.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.workers)
    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    torch.manual_seed(args.seed)
    unet, text_encoder = build(tokenizer)
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    average = Ema(parameters)
    data = torch.load(args.work / "latents.pt", weights_only=True)
    latents, ids = data["latents"], tokens(args.work, data["labels"], tokenizer, args.seed)
    empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids[0]
    noise_schedule = scheduler()
    snr = noise_schedule.alphas_cumprod / (1 - noise_schedule.alphas_cumprod)
    path, start, smooth = args.work / "diffusion.pt", 0, 1.0
    if (saved := load_checkpoint(path)) is not None:
        unet.load_state_dict(saved["unet"])
        text_encoder.load_state_dict(saved["text_encoder"])
        optimiser.load_state_dict(saved["optimiser"])
        average.shadow, start, smooth = saved["average"], saved["step"], saved["loss"]
    steps = range(start, args.steps)
    bar = tqdm(steps, initial=start, total=args.steps, desc="diffusion", mininterval=5, disable=rank > 0)
    size = BATCH // args.workers
    for step in bar:
        generator = step_generator(args.seed, step * args.workers + rank)
        pick = torch.randint(len(latents), (size,), generator=generator)
        x0, noise = latents[pick], torch.randn((size, *latents.shape[1:]), generator=generator)
        t = torch.randint(1000, (size,), generator=generator)
        text = ids[pick, torch.randint(CAPTIONS, (size,), generator=generator)]
        text = torch.where(torch.rand((size, 1), generator=generator) < 0.1, empty, text)
        states = text_encoder(text).last_hidden_state
        predicted = unet(noise_schedule.add_noise(x0, noise, t), t, states).sample
        weights = snr[t].clamp(max=SNR_CAP) / snr[t]
        error = (predicted - noise).square().mean((1, 2, 3))
        loss = (weights * error).sum() / weights.sum()
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * cosine(step, args.steps, warmup=200)
        optimiser.zero_grad()
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.update(parameters, step)
        smooth += 0.01 * (error.mean().item() - smooth)
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if rank == 0 and ((step + 1) % 250 == 0 or step + 1 == args.steps):
            state = {"unet": unet.state_dict(), "text_encoder": text_encoder.state_dict(), "average": average.shadow}
            state |= {"optimiser": optimiser.state_dict(), "step": step + 1, "loss": smooth}
            save_checkpoint(path, state)
    dist.barrier()
    dist.destroy_process_group()


def averaged(args: Any, tokenizer: CLIPTokenizer) -> tuple[UNet2DConditionModel, CLIPTextModel, float]:
    """The averaged weights of the last checkpoint, and its loss."""
    unet, text_encoder = build(tokenizer)
    saved = load_checkpoint(args.work / "diffusion.pt")
    assert saved is not None
    average = Ema([*unet.parameters(), *text_encoder.parameters()])
    average.shadow = saved["average"]
    average.copy_to([*unet.parameters(), *text_encoder.parameters()])
    return unet.eval(), text_encoder.eval(), saved["loss"]


@torch.no_grad()
def follows_prompts(pipe: StableDiffusionPipeline, per_object: int, *, steps: int = 25) -> dict[str, Any]:
    """Share of pictures in which the judges see the object and the style that the prompt names."""
    prompts, wanted_objects, wanted_styles = [], [], []
    for index, name in enumerate(OBJECTS):
        for n in range(per_object):
            style, colour = n % len(STYLES), (n + index) % len(COLOURS)
            prompts.append(f"a {name} in {STYLES[style]} style on a {list(COLOURS)[colour]} background")
            wanted_objects.append(index)
            wanted_styles.append(style)
    pipe.scheduler = LMSDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for first in tqdm(range(0, len(prompts), 20), desc="draw"):
        part = prompts[first : first + 20]
        generators = [torch.Generator().manual_seed(first + n) for n in range(len(part))]
        drawn = pipe(part, generator=generators, num_inference_steps=steps, guidance_scale=5.0, output_type="np").images
        pictures.append((drawn * 255).round().astype(np.uint8))
    x = normalise(np.concatenate(pictures))
    figures: dict[str, Any] = {"pictures": len(x), "sampling_steps": steps}
    for kind, wanted in (("object", wanted_objects), ("style", wanted_styles)):
        judge = AutoModelForImageClassification.from_pretrained(JUDGE / kind, dtype=torch.float32).eval()
        right = judge(x).logits.argmax(1) == torch.tensor(wanted)
        figures[f"{kind}_seen"] = round(float(right.float().mean()), 4)
        if kind == "object":
            shares = right.view(len(OBJECTS), per_object).float().mean(1)
            figures["object_seen_by_class"] = {n: round(float(s), 3) for n, s in zip(OBJECTS, shares, strict=True)}
    return figures


def main() -> None:
    """Train, save the pipeline in half precision, and record how often it draws what the prompt says."""
    p = parser(__doc__, steps=9_000)
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each that share every batch")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (args, f"{folder}/meeting"), nprocs=args.workers)
    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    unet, text_encoder, loss = averaged(args, tokenizer)
    vae = AutoencoderKL.from_pretrained(MODEL / "vae", dtype=torch.float32)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    record_figures("diffusion", {"steps": args.steps, "loss": round(loss, 4), **follows_prompts(pipe, 20)})
    pipe.scheduler = scheduler()
    pipe.to(torch.float16).save_pretrained(MODEL)
    forget_paths(MODEL)
    # The slow tokenizer's two files, which save_pretrained of a newer transformers leaves out.
    tokenizer.backend_tokenizer.model.save(str(MODEL / "tokenizer"))


if __name__ == "__main__":
    main()
