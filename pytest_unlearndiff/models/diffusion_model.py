"""The victim as an attack sees it: encode prompts, measure denoising errors, generate images."""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import torch
from PIL import Image

from ..core.concept import Sampling
from ..core.device import Probe, network_batch
from ..core.errors import ModelError
from ..core.family_fit import ModelFamily
from ..core.images import GenerationRequest, SamplerChange
from ..core.model_options import DefenseConfig
from ..core.outcome import count_forwards
from ..core.registry import registry
from ..core.untrusted import printable
from ..sources.resolve import import_string
from .defenses import Defense
from .device import in_batches, most_memory
from .families.base import Conditioning
from .families.lookup import bind_family, components_of, family_of
from .families.vocabulary import FilledPrompt, Vocabulary, embedded_prompt
from .generated_images import FiniteCheck, GeneratedImage
from .libraries import compiled_calls, library_warnings_ignored, silence_safety_checker, uncompiled
from .probing import alike, probed
from .tensor_text import unpack

T = TypeVar("T")


class DiffusionModel:
    """A frozen pipeline under attack.

    Timesteps are integers in [0, ``timesteps``), whatever the family's own measure of time.

    Args:
        pipe: the pipeline; it is not modified.
        sampling: how evaluation images are drawn.
        defenses: act on its images; encodings and predictions are those of the weights and of defenses whose rows say
            ``attacked_through``.
        safety_checker: whether images pass the pipeline's own safety checker, which blocks what it objects to;
            otherwise it is removed.
        compiled: whether to have torch compile the network.

    Attributes:
        flow: whether its network was trained by flow matching, for which schedules of attacks are others.

    Raises:
        ModelError: pipelines of its family cannot be attacked.
    """

    def __init__(
        self,
        pipe: Any,
        sampling: Sampling,
        defenses: Sequence[DefenseConfig] = (),
        *,
        safety_checker: bool = False,
        compiled: bool = False,
    ) -> None:
        family = family_of(pipe)
        ModelFamily(family, {}).check_defenses(each.name for each in defenses)
        self._component = family.network
        self.flow = family.flow
        # Texts are padded to the longest beside them, which changes last digits: each is read alone.
        self._one_by_one = family.ragged_texts
        self._pipe = copy.copy(pipe)
        if not safety_checker:
            self._pipe.safety_checker = None
        self._checked = safety_checker
        self._finite = FiniteCheck(self._pipe)
        self._calls = compiled_calls if compiled else nullcontext
        if compiled:  # when it is first called; the network itself stays as it is
            setattr(self._pipe, self._component, torch.compile(self.network))
        self._family = bind_family(self._pipe, sampling)
        self._sampling = sampling
        rows = [registry().defenses[each.name] for each in defenses]
        self._defenses: list[Defense] = [
            import_string(row.implementation)(**dict(each.options)) for row, each in zip(rows, defenses, strict=True)
        ]
        self._attacked_through = [each for row, each in zip(rows, self._defenses, strict=True) if row.attacked_through]
        with self._defended():  # so that one that does not fit is refused before anything is attacked
            pass

    @property
    def network(self) -> Any:
        """Component that predicts noise."""
        return getattr(self._pipe, self._component)

    @property
    def scheduler(self) -> Any:
        """Scheduler that images are drawn with; another one while a probe's are."""
        return self._pipe.scheduler

    @property
    def device(self) -> torch.device:
        """Device that it computes on; where the pipeline offloads weights, they are on the CPU between calls."""
        return torch.device(self._pipe._execution_device)

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens that can be typed."""
        return self._family.vocabulary

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents that the network was made for."""
        return self._family.latent_shape

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the images it draws, in pixels."""
        return self._family.image_size

    @property
    def timesteps(self) -> int:
        """Training timesteps of the noise schedule."""
        return self._family.timesteps

    def timestep(self, share: float) -> int:
        """Return the timestep at a share of the noise schedule, in (0, 1): 0 is the image, 1 is noise."""
        return round(share * self.timesteps)

    @property
    def forwards_per_image(self) -> int:
        """Forward passes of the network that one image costs, with those of defenses."""
        extra = sum(defense.extra_forwards_per_step for defense in self._defenses)
        return (self._family.forwards_per_step() + extra) * self._sampling.steps

    def gradient_scale(self, entries: int) -> float:
        """Return a factor for a loss before the backward pass, by which its gradients are divided afterwards.

        A mean over as many entries makes gradients of one over their number, and half precision ends at 6e-8. A power
        of two loses nothing.
        """
        return 2.0 ** round(math.log2(entries)) if self.network.dtype == torch.float16 else 1.0

    def batches(self, items: Sequence[T], size: int | None = None) -> Iterator[tuple[int, list[T]]]:
        """Split into batches as ``in_batches`` does, or of one item where texts are read alone."""
        return in_batches(items, 1 if self._one_by_one else size)

    def encode(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor | None = None) -> Conditioning:
        """Encode prompts with adversarial tokens.

        Args:
            prompts: with as many slots each.
            slot_embeddings: embeddings (B, k, d) float32 in the slots, which need not belong to any token; None for
                those of the prompts' own tokens.

        Returns:
            B rows; gradients reach ``slot_embeddings``.
        """
        with self._defended():
            if not self._one_by_one:
                return self._family.encode(prompts, slot_embeddings)
            slots = [None] * len(prompts) if slot_embeddings is None else torch.split(slot_embeddings, 1)
            return Conditioning.join(
                [self._family.encode([prompt], row) for prompt, row in zip(prompts, slots, strict=True)]
            )

    @contextmanager
    def _defended(self) -> Iterator[None]:
        """Have defenses that attacks go through act on the attacks' own encodings and predictions."""
        with ExitStack() as stack:
            for defense in self._attacked_through:
                stack.enter_context(defense.applied(self, 1.0))
            yield

    def tokens(self, text: str) -> int:
        """Count the tokens of a text with those at its ends, before it is cut."""
        return self.vocabulary.count(text)

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Conditioning:
        """Encode texts, too long ones cut as their tokenizers would; one row each."""
        prompts = [FilledPrompt(self.vocabulary.unattacked(text)) for text in texts]
        return Conditioning.join([self.encode(part)[:count] for count, part in self.batches(prompts)])

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noised latents x_t and what the network should predict there, both (B, C, h, w).

        Args:
            x0: latents (B, C, h, w).
            noise: standard normal, same shape.
            t: timesteps (B,) int64 in [0, ``timesteps``).
        """
        return self._family.add_noise(x0, noise, t)

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """Return the network's prediction (B, C, h, w) float32, without guidance.

        Args:
            x_t: noised latents (B, C, h, w).
            t: timesteps (B,) int64.
            conditioning: B rows.
        """
        count_forwards(len(x_t))
        with self._calls(), self._defended():
            if not self._one_by_one:
                return self._family.predict(x_t, t, conditioning)
            rows = [slice(row, row + 1) for row in range(len(x_t))]
            return torch.cat([self._family.predict(x_t[row], t[row], conditioning[row]) for row in rows])

    def denoising_error(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        conditioning: Conditioning,
        target: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Per-sample denoising error, ||eps - eps_theta(x_t | c)||^2 averaged over the latent (paper, eq. 5).

        Each sample has its own mean, so that summing over a batch mixes no gradients.

        Args:
            x0: latents (B, C, h, w) of the target images.
            noise: standard normal, same shape.
            t: timesteps (B,) int64.
            conditioning: B rows.
            target: what the network should predict (B, C, h, w), if not what ``add_noise`` returns.

        Returns:
            Errors (B,) float32.
        """
        x_t, default = self.add_noise(x0, noise, t)
        target = default if target is None else target
        errors = (self.predict(x_t, t, conditioning) - target.float()).square().mean((1, 2, 3))
        if errors.requires_grad:
            self._undo_offload()
        return errors

    def _undo_offload(self) -> None:
        """Put back on the device what the pipeline's own CPU offload took off: a backward pass finds weights there."""
        for name in components_of(self._pipe):
            hook: Any = getattr(getattr(self._pipe, name), "_hf_hook", None)
            if name != "vae" and type(hook).__name__ == "CpuOffload":
                getattr(self._pipe, name).to(hook.execution_device)

    @torch.no_grad()
    def probe(self) -> Probe:
        """Measure a forward pass: the second of two full batches, since the first one warms up."""
        size = network_batch(str(self.device))
        x = torch.zeros(size, *self.latent_shape, device=self.device)
        t = torch.full((size,), self.timestep(0.5), device=self.device)
        conditioning = self.encode_prompts([""] * size)
        seconds = 0.0
        for _ in range(2):
            started = time.monotonic()
            float(self.predict(x, t, conditioning).sum())  # which waits for the device
            seconds = time.monotonic() - started
        return Probe(str(self.device), seconds / size, most_memory(self.device), self.forwards_per_image)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Encode RGB images to scaled mean latents (B, C, h, w) float32, on the victim's device."""
        return torch.cat([self._family.encode_images(part)[:count] for count, part in in_batches(images)])

    @torch.no_grad()
    def generate(self, requests: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        """Draw images by the pipeline's own call on text, each from its own generator.

        Raises:
            ModelError: the pipeline does not show whether what it decodes is finite.
        """
        images: dict[int, GeneratedImage] = {}
        groups: dict[tuple[float, bool, SamplerChange | None], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[request.guidance, request.embedding is None, alike(request.sampler)].append(index)
        for (guidance, *_), indices in groups.items():
            for count, part in self.batches(indices):
                drawn = self._draw([requests[i] for i in part], guidance)
                images.update(zip(part[:count], drawn[:count], strict=True))
        return [images[i] for i in range(len(requests))]

    def _draw(self, requests: Sequence[GenerationRequest], guidance: float) -> list[GeneratedImage]:
        """Call the pipeline once, for requests that one sampler draws, and all of which have an embedding or none."""
        count, texts = len(requests), [request.text for request in requests]
        arguments = self._family.call_arguments(guidance, self._sampling.steps)
        if "negative_prompt" in arguments:
            arguments["negative_prompt"] = [arguments["negative_prompt"]] * count
        for defense in self._defenses:
            arguments |= defense.call_arguments(count, guidance)
        self._finite.begin()
        with ExitStack() as stack:
            for context in (library_warnings_ignored(), silence_safety_checker(), self._calls()):
                stack.enter_context(context)
            arguments |= stack.enter_context(probed(self._pipe, requests, self._sampling.steps, self.latent_shape))
            # Those that attacks go through last: others encode texts, on which those then act once already.
            for defense in sorted(self._defenses, key=self._attacked_through.__contains__):
                stack.enter_context(defense.applied(self, guidance))
            if embeddings := [request.embedding for request in requests if request.embedding is not None]:
                prompts = [embedded_prompt(text, self.vocabulary) for text in texts]
                texts = [self.vocabulary.text(prompt.pieces) for prompt in prompts]
                stacked = unpack(embeddings).unsqueeze(1).to(self.vocabulary.embeddings.device)
                stack.enter_context(self._family.embedded(prompts, stacked))
            stack.enter_context(_count_network_forwards(self.network))
            output = self._pipe(
                prompt=texts,
                generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
                **arguments,
            )
        flags = getattr(output, "nsfw_content_detected", None) if self._checked else None
        return [
            GeneratedImage.of(image, finite=finite, blocked=bool(blocked))
            for image, finite, blocked in zip(
                output.images, self._finite.finite(count), [False] * count if flags is None else flags, strict=True
            )
        ]

    def module(self, path: str) -> Any:
        """See ``DefendedModel``."""
        component, _, rest = path.partition(".")
        if component not in (components := components_of(self._pipe)):
            raise ModelError(
                f"the {type(self._pipe).__name__} has no module {printable(path, 200)!r}: begin with one of "
                f"{', '.join(components)}"
            )
        root = uncompiled(getattr(self._pipe, component))
        # Text encoders of transformers 4 keep everything in a "text_model", which those of transformers 5 lack.
        for name in (rest, rest.removeprefix("text_model."), f"text_model.{rest}"):
            with suppress(AttributeError):
                return root.get_submodule(name)
        raise ModelError(f"the {type(root).__name__} has no module {printable(path, 200)!r}")

    @torch.no_grad()
    def network_arguments(self, text: str) -> dict[str, Any]:
        """Return the network's keyword arguments for one text, each (1, ...), beside latents and timestep."""
        conditioning = self.encode([FilledPrompt(self.vocabulary.unattacked(text))])
        return self._family.network_arguments(conditioning, torch.empty(1, *self.latent_shape, device=self.device))


@contextmanager
def _count_network_forwards(network: Any) -> Iterator[None]:
    """Count a pipeline's forward passes, with those of defenses, whose hooks have to be registered before."""

    def count(_: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        latents = positional[0] if positional else named["sample" if "sample" in named else "hidden_states"]
        count_forwards(len(latents))

    hook = network.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
