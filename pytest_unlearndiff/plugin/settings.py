"""What a session was asked to do: every option's value, from wherever it was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .given import ELSEWHERE, PATHS, Given
from .given import given as find_given
from .options import OPTIONS, Option


@dataclass(frozen=True)
class Settings:
    """What this session was asked to do. See OPTIONS for the meaning of each field."""

    model: Path | None
    model_version: str | None
    base: Path | None
    concepts: tuple[Path, ...]
    concept: tuple[str, ...] | None
    max_asr: str | None
    published: Path | str | None
    clip: Path | None
    prompts: int | str | None
    cases: tuple[int, ...] | None
    attack: str | None
    schedule: str | None
    loss: str | None
    seed: int
    lanes: int
    workers: str | None
    worker_silence: float | None
    device: str
    per_gpu: int
    dtype: str
    compile: bool
    partial: bool
    trust_pickle: bool
    negative_prompt: str | None
    sld: tuple[str, str] | None
    sld_warmup: str
    safety_checker: bool
    cache: str
    cache_dir: Path | str
    progress: str
    exhaustive: bool
    budget: float | None
    plan: bool
    report: tuple[tuple[str, Path], ...]
    pictures: str
    require: bool

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read every option: command line before environment before ini before default.

        Raises:
            pytest.UsageError: a value is not of the allowed form, or a model path does not exist.
        """
        values = {option.name: _value(option, config) for option in OPTIONS}
        values["concepts"] = values["concepts"] or ()
        values["report"] = values["report"] or ()
        values["cache_dir"] = values["cache_dir"] or config.rootpath / ".unlearndiff"
        return cls(**values)

    @property
    def loading(self) -> dict[str, Any]:
        """What a ``VictimSource`` says beside paths."""
        return self.loading_on(self.device)

    def loading_on(self, device: str) -> dict[str, Any]:
        """The same on another device, where the session's pipeline is already."""
        from ..core.guidance import Guidance
        from ..core.precision import resolved

        strength, concept = self.sld or (None, "")
        return {
            "device": device,
            "dtype": resolved(self.dtype, device),
            "compiled": self.compile,
            "trust_pickle": self.trust_pickle,
            "partial": self.partial,
            "safety_checker": self.safety_checker,
            "guidance": Guidance(self.negative_prompt, strength, concept, self.sld_warmup),
        }


def _value(option: Option, config: pytest.Config) -> Any:
    """An option's value.

    Raises:
        pytest.UsageError: it is not of the allowed form, or leads nowhere.
    """
    if (given := find_given(option, config)) is None:
        return option.default
    if not given.text:
        raise pytest.UsageError(f"{given.origin}: nothing is given; leave it out, or give {option.metavar}")
    if option.name in PATHS:
        paths = tuple(_path(option.name, given, part, config) for part in given.parts(option.name))
        return paths if option.name == "concepts" else paths[0]
    try:
        value = option.read(given.text)
        if option.name == "attack":
            return _placed(value, given)
        return _destinations(value, given) if option.name == "report" else value
    except ValueError as error:
        raise pytest.UsageError(f"{given.origin}: {given.text!r} must be {error}") from None


def _placed(attack: str, given: Given) -> str:
    """An attack with the file it takes, if it takes one, as an absolute path.

    Raises:
        ValueError: there is no such file.
    """
    name, colon, path = attack.partition(":")
    if not colon:
        return name
    if not (file := (given.folder / Path(path).expanduser()).resolve()).is_file():
        raise ValueError(f"transfer:CSV, and there is no file {file}")
    return f"{name}:{file}"


def _destinations(reports: tuple[tuple[str, str], ...], given: Given) -> tuple[tuple[str, Path], ...]:
    """Where reports are written; kinds without a path get the folder, which nobody uses.

    Raises:
        ValueError: a folder stands where a report should be written.
    """
    found = tuple((kind, given.folder / Path(path).expanduser()) for kind, path in reports)
    for kind, path in found:
        if kind != "github" and path.is_dir():
            raise ValueError(f"paths of files, and {path} is a folder")
    return found


MENDS = {
    "concepts": "Give folders or files of concepts",
    "model": "Give a pipeline folder, a component folder, a checkpoint file, a URL, a downloaded Hub id or "
    "pkg.mod:callable",
    "base": "Give a pipeline folder, a URL, or the id of a Hub repository that is on this machine",
    "clip": "Give a CLIP folder, or the id of a Hub repository that is on this machine",
}


def _path(name: str, given: Given, text: str, config: pytest.Config) -> Path | str:
    """A path, which has to exist unless the plugin makes it; the store may be at a URL."""
    if name == "cache_dir" and "://" in text:
        return text
    if name == "published":
        return _published(given, text)
    path = given.folder / Path(text).expanduser()
    if name not in MENDS:
        return path
    if name in ELSEWHERE and not path.exists():  # what is here is found without the rooms that look elsewhere
        return _place(name, given, text, config)
    if not path.exists():
        raise pytest.UsageError(f"{given.origin}: there is nothing at {path}. {MENDS[name]}")
    return path.resolve()


def _place(name: str, given: Given, text: str, config: pytest.Config) -> Path:
    """Where a model is; copied to this machine if it is at a URL.

    Raises:
        pytest.UsageError: nowhere.
    """
    from ..campaign.fetching import place_of_model
    from ..core.errors import ModelError
    from .live import tell

    def say(said: str) -> None:
        if config.get_verbosity() >= 0:
            tell(config, f"unlearndiff: {said}\n")

    try:
        return place_of_model(text, given.folder, MENDS[name], maker=name == "model", say=say)
    except ModelError as error:
        raise pytest.UsageError(f"{given.origin}: {error}") from None


def _published(given: Given, text: str) -> Path | str:
    """A folder, a URL, or the URL of a data set on the Hub."""
    from ..core.prompt_source import place_of

    if isinstance(found := place_of(text, given.folder), Path) and not found.exists():
        raise pytest.UsageError(
            f"{given.origin}: there is nothing at {found}. Give the folder that holds your copies, a URL, or a "
            "data set on the Hub as owner/name"
        )
    return found.resolve() if isinstance(found, Path) else found
