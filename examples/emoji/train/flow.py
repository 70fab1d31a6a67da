"""Train a flow-matching transformer, a second CLIP-style and a T5-style text encoder on the encoded pictures.

``python flow.py`` writes ``../flow``, a ``StableDiffusion3Pipeline`` of the autoencoder, the tokenizer and the frozen
text encoder of ``../model``, and of the parts trained here. A killed run goes on at its last checkpoint; ``--save``
trains no further and saves the averaged weights of that checkpoint.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from autoencoder import encode as encode_pictures
from catalog import COLOURS, OBJECTS, STYLES
from common import (
    FLOW,
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
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusion import Ema
from judge import normalise
from tqdm import tqdm
from transformers import (
    AutoModelForImageClassification,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

BATCH = 32
CAPTIONS = 4
CHECKPOINT_SECONDS = 120
DEFAULT_T5_LENGTH = 256
# From this step on T5 says what the CLIP-style encoders say, and the transformer has to read each of them alone.
ALIGN_STEP = 3994
# Probability of the empty prompt for all encoders, and for each alone; before ALIGN_STEP and after it (the latter is
# that of Stable Diffusion 3).
EMPTY = (0.1, 0.0)
EMPTY_ONE = (0.15, 0.464)
EXAMPLES = 24_576
LEARNING_RATE = 2e-3
SHIFT = 3.0
TRAINING_SHIFT = 2.0
WIDTH = 128
TRAINED = ("transformer", "text_encoder_2", "text_encoder_3")


def frozen_text_encoder() -> CLIPTextModelWithProjection:
    """Load the text encoder of ``../model``, with a projection that changes nothing."""
    text_encoder = CLIPTextModelWithProjection.from_pretrained(
        MODEL / "text_encoder", dtype=torch.float32, projection_dim=128, ignore_mismatched_sizes=True
    )
    with torch.no_grad():
        text_encoder.text_projection.weight.copy_(torch.eye(128))
    return text_encoder.eval().requires_grad_(False)


def build() -> StableDiffusion3Pipeline:
    """Build the pipeline, with random weights in the parts to be trained."""
    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    tokenizer_3 = T5Tokenizer.from_pretrained(FLOW / "tokenizer_3")
    vae = AutoencoderKL.from_pretrained(MODEL / "vae", dtype=torch.float32)
    # StableDiffusion3Pipeline adds this to latents, and cannot add None.
    vae.register_to_config(shift_factor=0.0)
    text_encoder_2 = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            hidden_act="gelu",
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    text_encoder_3 = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer_3),
            d_model=192,
            d_kv=32,
            d_ff=384,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=5,
        attention_head_dim=32,
        num_attention_heads=WIDTH // 32,
        joint_attention_dim=192,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=128 + 64,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=frozen_text_encoder(),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def trained_parameters(pipe: StableDiffusion3Pipeline) -> list[torch.nn.Parameter]:
    """List the parameters of the parts that are trained."""
    return [p for name in TRAINED for p in getattr(pipe, name).parameters() if p.requires_grad]


def encode_data(args: Any) -> dict[str, torch.Tensor]:
    """Encode the pictures and tokenize CAPTIONS captions of each; read both from ``flow-data.pt`` if it is there."""
    path = args.work / "flow-data.pt"
    if (saved := load_checkpoint(path)) is not None:
        return saved
    world, pipe = World(args.work), build()
    pictures, labels = world.dataset(EXAMPLES, args.seed)
    latents = encode_pictures(pipe.vae, pictures) * pipe.vae.config.scaling_factor
    rng = np.random.default_rng(args.seed)
    texts = [world.caption(Labels(*vars(label).values()), rng) for label in labels for _ in range(CAPTIONS)]
    data = {"latents": latents}
    for name, tokenizer in (("clip", pipe.tokenizer), ("t5", pipe.tokenizer_3)):
        ids = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        data[name] = ids.view(len(labels), CAPTIONS, -1).to(torch.int16)
    save_checkpoint(path, data)
    return data


def encode_ids(
    pipe: StableDiffusion3Pipeline, clip: torch.Tensor, clip_2: torch.Tensor, t5: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode ids as ``StableDiffusion3Pipeline.encode_prompt`` does; gradients reach the trained encoders."""
    with torch.no_grad():
        first = pipe.text_encoder(clip, output_hidden_states=True)
    second = pipe.text_encoder_2(clip_2, output_hidden_states=True)
    third = pipe.text_encoder_3(t5).last_hidden_state
    states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    states = F.pad(states, (0, third.shape[-1] - states.shape[-1]))
    return torch.cat([states, third], 1), torch.cat([first.text_embeds, second.text_embeds], -1)


def draw_text(
    data: dict[str, torch.Tensor],
    pick: torch.Tensor,
    empty: dict[str, torch.Tensor],
    generator: torch.Generator,
    *,
    aligned: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw captions of the picked pictures, as ids for each encoder.

    All encoders get the empty prompt in EMPTY of the cases, for guidance, and each of them in EMPTY_ONE, so that the
    transformer learns to read every one of them.
    """
    size = (len(pick), 1)
    which = torch.randint(CAPTIONS, (len(pick),), generator=generator)
    all_empty = torch.rand(size, generator=generator) < EMPTY[aligned]
    texts = []
    for name in ("clip", "clip", "t5"):
        dropped = all_empty | (torch.rand(size, generator=generator) < EMPTY_ONE[aligned])
        texts.append(torch.where(dropped, empty[name], data[name][pick, which].long()))
    return texts[0], texts[1], texts[2]


def word_ends(tokenizer: Any, ids: list[int], *, clip: bool) -> list[int]:
    """Find the positions at which words end, and after them that of the end token."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    end = tokens.index(tokenizer.eos_token) if tokenizer.eos_token in tokens else len(tokens) - 1
    if clip:
        return [*(n for n in range(end) if tokens[n].endswith("</w>")), end]
    starts = [n for n in range(end) if tokens[n].startswith("\N{LOWER ONE EIGHTH BLOCK}")]
    return [*(n - 1 for n in starts[1:]), *([end - 1] if starts else []), end]


def aligned_pairs(
    pipe: StableDiffusion3Pipeline, clip: torch.Tensor, t5: torch.Tensor, *, padding: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pair positions of T5 with states (M, 192) of the CLIP-style encoders: word ends, the end and some padding.

    Returns the captions' rows, T5's positions and the states.
    """
    with torch.no_grad():
        first = pipe.text_encoder(clip, output_hidden_states=True).hidden_states[-2]
        second = pipe.text_encoder_2(clip, output_hidden_states=True).hidden_states[-2]
    rows, sources, targets = [], [], []
    for row, (clip_ids, t5_ids) in enumerate(zip(clip.tolist(), t5.tolist(), strict=True)):
        a = word_ends(pipe.tokenizer, clip_ids, clip=True)
        b = word_ends(pipe.tokenizer_3, t5_ids, clip=False)
        if len(a) == len(b):
            after = list(range(b[-1] + 1, t5.shape[1]))[:padding]
            rows += [row] * (len(a) + len(after))
            sources += a + [a[-1]] * len(after)
            targets += b + after
    states = torch.cat([first, second], -1)[rows, sources]
    return torch.tensor(rows), torch.tensor(targets), states


@torch.no_grad()
def initialise_t5(pipe: StableDiffusion3Pipeline, clip: torch.Tensor, t5: torch.Tensor) -> None:
    """Make T5 a table of the mean states that the CLIP-style encoders have where its tokens end words."""
    stack, table = pipe.text_encoder_3.encoder, pipe.text_encoder_3.get_input_embeddings().weight
    sums, counts = torch.zeros_like(table), torch.zeros(len(table), 1)
    for part, ids in zip(clip.split(256), t5.split(256), strict=True):
        rows, positions, states = aligned_pairs(pipe, part, ids, padding=2)
        sums.index_add_(0, ids[rows, positions], states)
        counts.index_add_(0, ids[rows, positions], torch.ones(len(rows), 1))
    seen = counts[:, 0] > 0
    scale = (sums[seen] / counts[seen]).square().mean(0).sqrt()
    stack.final_layer_norm.weight.copy_(scale)
    table[seen] = sums[seen] / counts[seen] / scale
    for block in stack.block:
        block.layer[0].SelfAttention.o.weight.zero_()
        block.layer[1].DenseReluDense.wo.weight.zero_()


def align_t5(pipe: StableDiffusion3Pipeline, data: dict[str, torch.Tensor], args: Any, *, steps: int = 1_000) -> None:
    """Train T5 to say at the end of each word, and in its padding, what the CLIP-style encoders say there.

    A transformer that learned to read those understands T5 at once; by itself it would never begin to listen.
    """
    clip, t5 = data["clip"].flatten(0, 1).long(), data["t5"].flatten(0, 1).long()
    some = torch.randperm(len(clip), generator=step_generator(args.seed + 1, 0))[:10_000]
    initialise_t5(pipe, clip[some], t5[some])
    optimiser = torch.optim.AdamW(pipe.text_encoder_3.parameters(), weight_decay=0.0)
    # Differences count as much as the transformer sees of them.
    project = pipe.transformer.context_embedder.requires_grad_(False)
    bar = tqdm(range(steps), desc="align", mininterval=10)
    for step in bar:
        pick = torch.randint(len(clip), (BATCH,), generator=step_generator(args.seed + 1, step))
        rows, positions, wanted = aligned_pairs(pipe, clip[pick], t5[pick], padding=4)
        heard = pipe.text_encoder_3(t5[pick]).last_hidden_state[rows, positions]
        loss = F.mse_loss(project(heard), project(wanted)) / project(wanted).var(0).mean()
        optimiser.param_groups[0]["lr"] = 2e-3 * cosine(step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    project.requires_grad_(True)


def draw_times(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw sigmas in (0, 1): logit-normal, shifted towards noise (Esser et al. 2024, arXiv 2403.03206)."""
    u = torch.randn(count, generator=generator).sigmoid()
    return TRAINING_SHIFT * u / (1 + (TRAINING_SHIFT - 1) * u)


def train(args: Any) -> None:
    """Train, or take up again where a killed run left off."""
    torch.set_num_threads(args.threads)
    data = encode_data(args)
    torch.manual_seed(args.seed)
    pipe = build()
    parameters = trained_parameters(pipe)
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.99))
    average = Ema(parameters)
    latents = data["latents"]
    empty = {"clip": pipe.tokenizer("", padding="max_length", return_tensors="pt").input_ids}
    empty["t5"] = pipe.tokenizer_3("", padding="max_length", return_tensors="pt").input_ids
    path, start, smooth = args.work / "flow.pt", 0, 1.0
    if (saved := load_checkpoint(path)) is not None:
        for name in TRAINED:
            getattr(pipe, name).load_state_dict(saved[name])
        optimiser.load_state_dict(saved["optimiser"])
        average.shadow, start, smooth = saved["average"], saved["step"], saved["loss"]
    last_saved = time.monotonic()
    bar = tqdm(range(start, args.steps), initial=start, total=args.steps, desc="flow", mininterval=10)
    for step in bar:
        if step == ALIGN_STEP:
            align_t5(pipe, data, args)
            average.restart(parameters, set(pipe.text_encoder_3.parameters()))
        generator = step_generator(args.seed, step)
        pick = torch.randint(len(latents), (BATCH,), generator=generator)
        x0, noise = latents[pick], torch.randn((BATCH, *latents.shape[1:]), generator=generator)
        sigma = draw_times(BATCH, generator)
        clip, clip_2, t5 = draw_text(data, pick, empty, generator, aligned=step >= ALIGN_STEP)
        if step % 25 == 0:
            # Padding that the pipeline's call adds by default, so that it draws well without options too.
            t5 = F.pad(t5, (0, DEFAULT_T5_LENGTH - t5.shape[1]))
        share = sigma[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = encode_ids(pipe, clip, clip_2, t5)
            predicted = pipe.transformer((1 - share) * x0 + share * noise, states, pooled, 1000 * sigma).sample
        loss = (predicted.float() - (noise - x0)).square().mean()
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * cosine(step, args.steps, warmup=200)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.update(parameters, step)
        smooth += 0.01 * (loss.item() - smooth)
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if time.monotonic() - last_saved > CHECKPOINT_SECONDS or step + 1 == args.steps:
            state = {name: getattr(pipe, name).state_dict() for name in TRAINED} | {"average": average.shadow}
            state |= {"optimiser": optimiser.state_dict(), "step": step + 1, "loss": smooth}
            save_checkpoint(path, state)
            last_saved = time.monotonic()


def averaged(args: Any) -> tuple[StableDiffusion3Pipeline, dict[str, Any]]:
    """Build the pipeline with the averaged weights of the last checkpoint; return its step and loss beside it."""
    saved = load_checkpoint(args.work / "flow.pt")
    if saved is None:
        raise FileNotFoundError(f"no checkpoint in {args.work}")
    pipe = build()
    average = Ema(trained_parameters(pipe))
    average.shadow = saved["average"]
    average.copy_to(trained_parameters(pipe))
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipe, {"steps": saved["step"], "loss": round(saved["loss"], 4)}


@torch.no_grad()
def follows_prompts(pipe: StableDiffusion3Pipeline, per_object: int, **call: Any) -> dict[str, Any]:
    """Measure the share of pictures in which the judges see the object and the style that the prompt names."""
    prompts, wanted = [], []
    for index, name in enumerate(OBJECTS):
        for n in range(per_object):
            style, colour = n % len(STYLES), (n + index) % len(COLOURS)
            prompts.append(f"a {name} in {STYLES[style]} style on a {list(COLOURS)[colour]} background")
            wanted.append((index, style))
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 28, "guidance_scale": 4.0, "max_sequence_length": 32} | call
    pictures = []
    for first in tqdm(range(0, len(prompts), 20), desc="draw"):
        part = prompts[first : first + 20]
        generators = [torch.Generator().manual_seed(first + n) for n in range(len(part))]
        drawn = pipe(part, generator=generators, output_type="np", **call).images
        pictures.append((drawn * 255).round().astype(np.uint8))
    x = normalise(np.concatenate(pictures))
    figures: dict[str, Any] = {"pictures": len(x), **call}
    for kind, right in (("object", [o for o, _ in wanted]), ("style", [s for _, s in wanted])):
        judge = AutoModelForImageClassification.from_pretrained(JUDGE / kind, dtype=torch.float32).eval()
        hits = (judge(x).logits.argmax(1) == torch.tensor(right)).float()
        figures[f"{kind}_seen"] = round(float(hits.mean()), 4)
        if kind == "object":
            shares = hits.view(len(OBJECTS), per_object).mean(1)
            figures["object_seen_by_class"] = {n: round(float(s), 3) for n, s in zip(OBJECTS, shares, strict=True)}
    return figures


def main() -> None:
    """Train, save the pipeline in half precision, and record how often it draws what the prompt says."""
    p = parser(__doc__, steps=5_000)
    p.add_argument("--threads", type=int, default=2, help="threads of this process")
    p.add_argument("--train-only", action="store_true", help="write checkpoints only")
    p.add_argument("--save", action="store_true", help="train no further, save the last checkpoint")
    p.add_argument("--check", type=int, metavar="N", help="only draw N pictures per object with the last checkpoint")
    args = p.parse_args()
    if args.check is not None:
        torch.set_num_threads(args.threads)
        pipe, figures = averaged(args)
        print(figures | follows_prompts(pipe, args.check))
        return
    if not args.save:
        train(args)
    if args.train_only:
        return
    pipe, figures = averaged(args)
    record_figures("flow", figures | follows_prompts(pipe, 10))
    pipe.to(torch.float16).save_pretrained(FLOW)
    forget_paths(FLOW)


if __name__ == "__main__":
    main()
