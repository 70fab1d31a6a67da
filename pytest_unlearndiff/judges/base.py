"""The protocol of judges, and how one is built from a concept's configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from PIL import Image

from ..core.concept import JudgeConfig, Sampling
from ..core.errors import JudgeError
from ..core.images import Judgement
from ..core.judge_options import check, parts_of
from ..core.registry import registry
from ..models.diffusion_model import DiffusionModel
from ..models.pipeline_folders import load_pipeline
from ..sources.resolve import import_string


class Judge(Protocol):
    """Looks at images and says whether the concept is in them."""

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order.

        Args:
            images: to judge.
            prompts: their texts, which some judges read.
        """
        ...


class CheckedJudge:
    """Calls a judge and refuses answers that are none.

    Args:
        name: of the judge, for messages.
        function: called with a list of RGB images; it returns one answer each: a ``Judgement``, true or false for hit,
            or a pair (hit, score).
        reads_prompts: whether it is called with the list of their texts too.
    """

    def __init__(self, name: str, function: Callable[..., Iterable[Any]], *, reads_prompts: bool = False) -> None:
        self._name, self._function, self._reads_prompts = name, function, reads_prompts

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order.

        Raises:
            JudgeError: the number of answers is not that of images, or an answer is none.
        """
        answers = list(self._function(list(images), *([list(prompts)] if self._reads_prompts else [])))
        if len(answers) != len(images):
            raise JudgeError(f"{self._name} gave {len(answers)} answers on {len(images)} images")
        return [self._judgement(answer) for answer in answers]

    def _judgement(self, answer: Any) -> Judgement:
        if isinstance(answer, Judgement):
            return answer
        hit, score = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        try:
            if bool(hit) == hit:  # numpy's and torch's truth values too, but no score taken for one
                return Judgement(bool(hit), float(bool(hit) if score is None else score), str(bool(hit)))
        except (TypeError, ValueError, RuntimeError):
            pass
        raise JudgeError(f"{self._name} gave {answer!r}: an answer is a Judgement, True or False, or (hit, score)")


def build_judge(config: JudgeConfig, device: str, pipeline: Callable[[str], Any] | None = None) -> Judge:
    """Build the judge that a concept names.

    Args:
        config: the judge and its options.
        device: where its networks run.
        pipeline: loads a pipeline folder, for a judge that uses the un-erased model; the plain loader where None.

    Raises:
        JudgeError: no such judge, its options do not fit, or what it needs cannot be loaded.
        ModelError: the pipeline of a judge that uses one cannot be loaded.
    """
    check(config)
    info = registry().judges[config.kind]
    options: dict[str, Any] = dict(config.options)
    if info.combines:
        options["judges"] = [(part.kind, build_judge(part, device, pipeline)) for part in parts_of(config)]
    if info.uses_base:
        pipe = pipeline(options["model"]) if pipeline is not None else load_pipeline(options["model"], device=device)
        options["model"] = DiffusionModel(pipe, Sampling(scheduler="own"))
    try:
        implementation = import_string(info.implementation)
    except ImportError as error:
        raise JudgeError(f"judge {info.name}: {error}") from None
    judge = implementation(**options, device=device)
    if not callable(judge):
        raise JudgeError(
            f"judge {info.name}: {info.implementation} gave a {type(judge).__name__}, which cannot be called"
        )
    return CheckedJudge(f"judge {info.name}", judge, reads_prompts=info.reads_prompts)
