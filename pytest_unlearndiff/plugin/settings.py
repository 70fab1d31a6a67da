"""What a session was asked to do: every option's value, from wherever it was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .option_sources import ELSEWHERE, PATHS, RawOption, expanded, is_there
from .option_sources import given as find_given
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
    prompt_sets: Path | str | None
    prompts: int | str | None
    case_numbers: tuple[int, ...] | None
    attack: str | None
    schedule: str | None
    loss: str | None
    seed: int
    batch_size: int
    workers: str | None
    worker_timeout: float | None
    device: str
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
    time_budget: float | None
    plan: bool
    report: tuple[tuple[str, Path], ...]
    images: str
    require: bool

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read every option: command line before ini before default.

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
        """What a ``ModelSpec`` says beside paths."""
        return self.loading_on(self.device)

    def loading_on(self, device: str) -> dict[str, Any]:
        """The same on another device, where the session's pipeline is already."""
        from ..core.defenses import Guidance
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


_SETTINGS = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """Return the session's settings, read once.

    Raises:
        pytest.UsageError: as ``Settings.from_config``.
    """
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = Settings.from_config(config)
    return config.stash[_SETTINGS]


def _value(option: Option, config: pytest.Config) -> Any:
    """An option's value.

    Raises:
        pytest.UsageError: it is not of the allowed form, or leads nowhere.
    """
    if (given := find_given(option, config)) is None:
        return option.default
    try:
        return _read(option, given, config)
    except ValueError as error:  # of which the project's own errors are a kind
        from ..core.untrusted import printable

        raise pytest.UsageError(f"{given.origin}: {printable(str(error), 1_500)}") from None


def _read(option: Option, given: RawOption, config: pytest.Config) -> Any:
    """The value of an option that is given.

    Raises:
        ValueError: it is not of the allowed form, or leads nowhere.
    """
    if not given.text:
        raise ValueError(f"nothing is given; leave it out, or give {option.metavar}")
    if option.name in PATHS:
        paths = tuple(_path(option.name, given, part, config) for part in given.parts(option.name))
        return paths if option.name == "concepts" else paths[0]
    try:
        value = option.read(given.text)
        if option.name == "attack":
            return _placed(value, given)
        return _destinations(value, given) if option.name == "report" else value
    except ValueError as error:
        from ..core.untrusted import short_repr

        raise ValueError(f"{short_repr(given.text, 200)} must be {error}") from None


def _placed(attack: str, given: RawOption) -> str:
    """An attack with the file it takes, if it takes one, as an absolute path.

    Raises:
        ValueError: there is no such file.
    """
    name, colon, path = attack.partition(":")
    if not colon:
        return name
    from ..core.untrusted import parse_path

    try:
        file = parse_path(path, given.folder).resolve()
    except ValueError as error:
        raise ValueError(f"transfer:CSV, and the path {error}") from None
    if not file.is_file():
        raise ValueError(f"transfer:CSV, and there is no file {file}")
    return f"{name}:{file}"


def _destinations(reports: tuple[tuple[str, str], ...], given: RawOption) -> tuple[tuple[str, Path], ...]:
    """Where reports are written; kinds without a path get the folder, which nobody uses.

    Raises:
        ValueError: a report cannot be written there, since a folder, a pipe or a device is in its place.
    """
    from ..core.untrusted import parse_path, special_file

    found = []
    for kind, text in reports:
        try:
            path = parse_path(text, given.folder)
        except ValueError as error:
            raise ValueError(f"paths of files, and that of {kind} {error}") from None
        if kind != "github" and (path.is_dir() or special_file(path)):
            raise ValueError(f"paths of files, and {path} is {special_file(path) or 'a folder'}")
        found.append((kind, path))
    return tuple(found)


MENDS = {
    "concepts": "Give folders or files of concepts",
    "model": "Give a pipeline folder, a component folder, a checkpoint file, a URL, a downloaded Hub id or "
    "pkg.mod:callable",
    "base": "Give a pipeline folder, a URL, or the id of a Hub repository that is on this machine",
}


def _path(name: str, given: RawOption, text: str, config: pytest.Config) -> Path | str:
    """A path, which has to exist unless the plugin makes it; the store may be at a URL.

    Raises:
        ValueError: there is nothing, or no file or folder.
    """
    if name == "cache_dir" and "://" in text:
        return text
    if name == "prompt_sets":
        return _published(given, text)
    # Files that are here are found without importing what looks elsewhere, and without the guards.
    if name in MENDS and is_there(path := given.folder / expanded(text)):
        return path.resolve()
    if name in ELSEWHERE:
        return _place(name, given, text, config)
    from ..core.untrusted import find_path, parse_path, printable

    try:
        find_path(text, given.folder)  # refuses what is neither a file nor a folder
        path = parse_path(text, given.folder)
    except ValueError as error:
        raise ValueError(f"{printable(text)} {error}") from None
    if name == "cache_dir":
        nearest = next(above for above in (path, *path.parents) if above.exists())
        if not nearest.is_dir():
            raise ValueError(f"{nearest} is not a folder")
        return path
    raise ValueError(f"there is nothing at {path}. {MENDS[name]}")


def _place(name: str, given: RawOption, text: str, config: pytest.Config) -> Path:
    """Where a model is; copied to this machine if it is at a URL.

    Raises:
        ModelError: nowhere.
    """
    from ..sources.download import resolve_model_path
    from .live_progress import tell

    def say(said: str) -> None:
        if config.get_verbosity() >= 0:
            tell(config, f"unlearndiff: {said}\n")

    return resolve_model_path(text, given.folder, MENDS[name], maker=name == "model", say=say)


def _published(given: RawOption, text: str) -> Path | str:
    """A folder, a URL, or the URL of a data set on the Hub.

    Raises:
        ValueError: there is no such folder.
    """
    from ..core.prompt_sets import locate_prompt_set

    if isinstance(found := locate_prompt_set(text, given.folder), Path) and not found.is_dir():
        raise ValueError(
            f"there is {'no folder' if found.exists() else 'nothing'} at {found}. Give the folder that holds your "
            "copies, a URL, or a data set on the Hub as owner/name"
        )
    return found.resolve() if isinstance(found, Path) else found
