"""Load pipeline folders: no code of theirs is run, nothing is fetched, and every tensor must be in their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffusers.utils import is_accelerate_available

from ..core.errors import ModelError, one_line
from ..core.model_info import FamilyInfo
from ..core.untrusted import printable, short_repr
from ..sources.model_header import file_kind
from ..sources.resolve import hub_folder, hub_hint, import_string
from ..sources.weight_files import WeightFiles, read_json, weight_files, weights_stem
from .device import to_device, weights_type
from .families.lookup import components_of, family_named, refusal, supported_families
from .libraries import library_warnings_ignored, silence_libraries
from .tensor_files import read_shapes
from .weight_patches import quantizer

CHECKER = "safety_checker"
NO_CHECKER = "has no safety checker: leave out --unlearndiff-safety-checker, or save the one you ship in the pipeline"
_LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
# Attention of autoencoders as diffusers < 0.17 named it, and Stable Diffusion 1.x files still do.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


# Packages that quantised weights need, by the method that a component's configuration names: module and distribution.
_QUANTIZERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "gguf": ("gguf", "gguf"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
    "sdnq": ("sdnq", "sdnq"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "hqq": ("hqq", "hqq"),
}


def load_pipeline(
    path: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    safety_checker: bool = False,
    shared: Mapping[str, Any] | None = None,
) -> Any:
    """Load a pipeline folder, refusing components with missing weights.

    Args:
        path: folder with a ``model_index.json``, or the Hub id of a repository that is on this machine.
        device: where it goes.
        dtype: name of its arithmetic, one of ``core.device.WEIGHTS``.
        safety_checker: whether to load it too.
        shared: loaded components of another pipeline, which have the same files as this one's (``same_files``).

    Returns:
        The pipeline, frozen, in evaluation mode.

    Raises:
        ModelError: there is no pipeline, it is of no known family, weights are missing, or there is no safety checker
            where it is asked for.
    """
    folder = _local_folder(path)
    if not (folder / "model_index.json").is_file():
        hint = f"; {hub}" if not folder.exists() and (hub := hub_hint(str(path))) else ""
        reason = "it is a file: give a pipeline folder" if folder.is_file() else "it holds no model_index.json"
        raise ModelError(f"{path} cannot be loaded as a diffusers pipeline: {reason}{hint}")
    try:
        family = check_index(folder)
        files = _component_files(folder, family, safety_checker=safety_checker)
        _check_quantizers(folder, family)
        pipe = _from_pretrained(folder, family, files, dtype, shared or {})
        _check_whole(pipe, {name: weights for name, weights in files.items() if name not in (shared or {})})
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return freeze(to_device(pipe, device))


def load_scheduler(path: str | Path) -> Any:
    """Load the scheduler of a pipeline alone, as the pipeline's class would have it, which mends old configs.

    Args:
        path: as ``load_pipeline``'s.

    Raises:
        ModelError: there is none that can be loaded.
    """
    folder = _local_folder(path)
    try:
        family = check_index(folder)
        pipeline = import_string(family.pipeline)
        others = {*family.components, *_TOKENIZERS}.intersection(pipeline.__init__.__annotations__)
        left_out = {**dict.fromkeys(others), **family.load_options, **family.load_options_unchecked}
        with silence_libraries(), library_warnings_ignored():
            pipe = pipeline.from_pretrained(folder, local_files_only=True, **left_out)
    except Exception as error:
        raise ModelError(f"{path}: its scheduler cannot be loaded: {one_line(error)}") from None
    return pipe.scheduler


def freeze(pipe: Any) -> Any:
    """Put a pipeline into evaluation mode, without gradients for weights and without a progress bar."""
    for name in (*components_of(pipe), *((CHECKER,) if getattr(pipe, CHECKER, None) is not None else ())):
        getattr(pipe, name).eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check_index(folder: Path) -> FamilyInfo:
    """Refuse pipelines of unknown classes, and those that bring code.

    Returns:
        The pipeline's family.

    Raises:
        ModelError: names the class or the component.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    parts = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_")}
    foreign = {key: value for key, value in parts.items() if len(value) != 2 or value[0] not in _LIBRARIES}
    if not isinstance(name, str) or foreign:
        part, value = next(iter(foreign.items()), ("_class_name", name))
        raise ModelError(
            "its model_index.json names code that is not diffusers' or transformers' own "
            f"({printable(part)} = {short_repr(value)}), which is never run; build the pipeline yourself and give it "
            "as pkg.mod:callable"
        )
    if (family := family_named(name)) is None:
        raise ModelError(f"is a {printable(name)}{printable(refusal(name))}")
    for part in _components_in(folder, family):
        if part not in parts or parts[part][1] not in (classes := family.components[part]):
            actual = printable(str(parts.get(part, [None, "missing"])[1]))
            raise ModelError(f"its {part} is {actual}, not {' or '.join(classes)}; {supported_families()}")
    return family


def _components_in(folder: Path, family: FamilyInfo) -> list[str]:
    """Return the components that a pipeline folder must hold: all but optional ones that its index leaves out."""
    index = read_json(folder / "model_index.json")
    return [name for name in family.components if name not in family.optional or index.get(name) != [None, None]]


def _local_folder(path: str | Path) -> Path:
    return Path(path) if Path(path).exists() else hub_folder(str(path)) or Path(path)


def _from_pretrained(
    folder: Path, family: FamilyInfo, files: Mapping[str, WeightFiles], dtype: str, shared: Mapping[str, Any]
) -> Any:
    # Stated, so that the libraries do not log what they would rather have.
    safe = {component.safe for component in files.values()}
    lacking = [name for name in family.optional if name not in files]
    lacking += [name.replace("text_encoder", "tokenizer") for name in lacking]
    try:
        with library_warnings_ignored():
            return import_string(family.pipeline).from_pretrained(
                folder,
                dtype=weights_type(dtype),
                variant=files[family.network].variant,
                use_safetensors=safe.pop() if len(safe) == 1 else None,
                low_cpu_mem_usage=is_accelerate_available(),
                local_files_only=True,
                **family.load_options,
                **shared,
                **dict.fromkeys(lacking),
                **({} if CHECKER in files else family.load_options_unchecked),
            )
    except Exception as error:
        raise ModelError(f"cannot be loaded as a diffusers pipeline: {str(error)[:300]}") from None


def _check_quantizers(folder: Path, family: FamilyInfo) -> None:
    """Refuse quantised weights that this Python cannot read."""
    for component in _components_in(folder, family):
        quantization = read_json(folder / component / "config.json").get("quantization_config")
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        module, package = _QUANTIZERS.get(str(method), ("", ""))
        if module and not _is_installed(module):
            raise ModelError(
                f"its {component} is quantised with {method}, which needs the package {package}: pip install "
                f"{package}, or give the pipeline as it was before"
            )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # the package around it is missing
        return False


def _component_files(folder: Path, family: FamilyInfo, *, safety_checker: bool) -> dict[str, WeightFiles]:
    components = _components_in(folder, family)
    files = {component: weight_files(folder / component, weights_stem(component)) for component in components}
    if safety_checker:
        if read_json(folder / "model_index.json").get(CHECKER, [None])[0] is None:
            raise ModelError(f"the {family.pipeline_classes[0]} {NO_CHECKER}")
        files[CHECKER] = weight_files(folder / CHECKER, "model")
    for component, weights in files.items():
        # The libraries go by names, and would call such a file damaged.
        if wrong := next((file for file in weights.files if weights.safe and file_kind(file) == "pickle"), None):
            raise ModelError(f"{component}/{wrong.name} is what torch.save writes: name it {wrong.stem}.bin")
    return files


def _check_whole(pipe: Any, files: Mapping[str, WeightFiles]) -> None:
    """Compare a loaded pipeline with its files: the libraries fill gaps with random numbers, and only warn."""
    for part, weights in files.items():
        tensors = getattr(pipe, part).state_dict()
        expected = {_current_name(part, key): tuple(value.shape) for key, value in tensors.items()}
        shapes = (item for file in weights.files for item in read_shapes(file).items())
        stored = {_current_name(part, key): shape for key, shape in shapes}
        stored = {key: shape for key, shape in stored.items() if key in expected or not key.endswith("position_ids")}
        # Of tied tensors, such as T5's embeddings under two names, files may hold one.
        tied = {value.data_ptr() for key, value in tensors.items() if _current_name(part, key) in stored}
        names = {_current_name(part, key) for key, value in tensors.items() if value.data_ptr() not in tied}
        if missing := sorted(names - set(stored)):
            raise ModelError(
                f"{part}: {len(missing)} tensors are not in its files, such as {missing[0]}; the libraries would fill "
                "them with random numbers"
            )
        if unexpected := sorted(set(stored) - set(expected)):
            raise ModelError(f"{part}: {len(unexpected)} tensors have no place in it, such as {unexpected[0]}")
        shared = sorted(set(expected) & set(stored))
        if quantizer(getattr(pipe, part)):
            continue  # packed numbers, in types of the library that made them
        if other := next((key for key in shared if _linear(expected[key]) != _linear(stored[key])), None):
            raise ModelError(f"{part}: {other} is {list(stored[other])}, by its config {list(expected[other])}")
        if bad := next((key for key, value in tensors.items() if not value.isfinite().all()), None):
            raise ModelError(f"{part}: {bad} holds NaN or infinity")


def _linear(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the sides of a 1x1 convolution, which is a linear layer."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _current_name(part: str, key: str) -> str:
    """Rename a tensor of an older library version as today's names it."""
    if part.startswith("text_encoder"):
        return re.sub(r"^(model\.)?(text_model\.|language_model\.)?", "", key)
    if part == CHECKER:
        return key.replace("vision_model.vision_model.", "vision_model.")
    if part == "vae" and (match := re.fullmatch(r"(.+\.attentions\.\d+)\.(\w+)\.(weight|bias)", key)):
        return f"{match[1]}.{_OLD_ATTENTION.get(match[2], match[2])}.{match[3]}"
    return key
