"""The settings of a session: every option's value, from the command line or the ini file, typed and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ..core.defenses import DefenseConfig, defense, parse_defense
from ..core.device import resolve_precision
from ..core.errors import redact_url
from ..core.untrusted import printable, short_repr
from . import option_parsers as parsers
from . import option_paths as paths
from .live_progress import tell
from .option_paths import PathForm, RawOption
from .options import OPTIONS, Option

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class _Reader:
    """How a setting is read from text.

    Attributes:
        read: makes the value.
        form: how paths stand in the text.
        states_form: whether errors of ``read`` state the allowed form, as opposed to what is wrong.
    """

    read: Callable[[RawOption, Callable[[str], None]], Any]
    form: PathForm = PathForm.NONE
    states_form: bool = True


def _value(parse: Callable[[str], T], default: D) -> T | D:
    """Declare a setting that is parsed from text alone."""
    return field(default=default, metadata={"reader": _Reader(lambda raw, say: parse(raw.text))})


def _path(
    locate: Callable[[RawOption, Callable[[str], None]], T], default: D, form: PathForm, *, states_form: bool = False
) -> T | D:
    """Declare a setting that holds paths."""
    return field(default=default, metadata={"reader": _Reader(locate, form, states_form)})


@dataclass(frozen=True)
class Settings:
    """What this session was asked to do. See OPTIONS for the meaning of each field."""

    model: Path | None = _path(paths.locate_model, None, PathForm.PATH_OR_NAME)
    model_version: str | None = _value(parsers.parse_version, None)
    base: Path | None = _path(paths.locate_base, None, PathForm.PATH_OR_NAME)
    concepts: tuple[Path, ...] = _path(paths.locate_concepts, (), PathForm.LIST)
    concept: tuple[str, ...] | None = _value(parsers.parse_names, None)
    max_asr: str | None = _value(parsers.parse_rate, None)
    prompt_sets: Path | str | None = _path(paths.locate_prompt_sets, None, PathForm.PATH_OR_NAME)
    prompts: int | str | None = _value(parsers.parse_prompts, None)
    case_numbers: tuple[int, ...] | None = _value(parsers.parse_case_numbers, None)
    attack: str | None = _path(paths.locate_attack, None, PathForm.AFTER_COLON, states_form=True)
    schedule: str | None = _value(parsers.parse_schedule, None)
    loss: str | None = _value(parsers.parse_loss, None)
    seed: int = _value(parsers.parse_seed, 0)
    batch_size: int = _value(parsers.parse_batch_size, 8)
    workers: str | None = _value(parsers.parse_workers, None)
    worker_timeout: float | None = _value(parsers.parse_time, None)
    device: str = _value(parsers.parse_device, "auto")
    dtype: str = _value(parsers.parse_precision, "auto")
    compile: bool = _value(parsers.parse_bool, False)
    partial: bool = _value(parsers.parse_bool, False)
    trust_pickle: bool = _value(parsers.parse_bool, False)
    negative_prompt: str | None = _value(parsers.parse_text, None)
    sld: tuple[str, str] | None = _value(parsers.parse_sld, None)
    defense: DefenseConfig | None = _value(parse_defense, None)
    sld_warmup: str = _value(parsers.one_of("steps", "timesteps"), "steps")
    safety_checker: bool = _value(parsers.parse_bool, False)
    cache: str = _value(parsers.one_of("rw", "ro", "refresh", "off", "require"), "rw")
    cache_dir: Path | str = _path(paths.locate_store, Path(".unlearndiff"), PathForm.PATH)
    progress: str = _value(parsers.one_of("auto", "lines", "off"), "auto")
    exhaustive: bool = _value(parsers.parse_bool, False)
    time_budget: float | None = _value(parsers.parse_time, None)
    plan: bool = _value(parsers.parse_bool, False)
    report: tuple[tuple[str, Path], ...] = _path(paths.locate_reports, (), PathForm.NONE, states_form=True)
    images: str = _value(parsers.one_of("blurred", "none"), "blurred")
    require: bool = _value(parsers.parse_bool, False)

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read every option: command line before ini before default.

        Raises:
            pytest.UsageError: a value is malformed, or a path leads nowhere.
        """
        raw_options = ((option, find_option(option, config)) for option in OPTIONS)
        values = {option.name: _read(option, raw, config) for option, raw in raw_options if raw is not None}
        return cls(**({"cache_dir": config.rootpath / ".unlearndiff"} | values))

    @property
    def loading(self) -> dict[str, Any]:
        """Keywords of a ``ModelSpec`` beside its paths."""
        return self.loading_on(self.device)

    def loading_on(self, device: str) -> dict[str, Any]:
        """Return the same for another device, where the session's pipeline already is."""
        defenses = [] if self.defense is None else [self.defense]
        if self.negative_prompt is not None:
            defenses.append(defense("negative-prompt", prompt=self.negative_prompt))
        if self.sld is not None:
            strength, concept = self.sld
            defenses.append(
                defense("safe-latent-diffusion", strength=strength, concept=concept, warmup=self.sld_warmup)
            )
        return {
            "device": device,
            "dtype": resolve_precision(self.dtype, device),
            "compiled": self.compile,
            "trust_pickle": self.trust_pickle,
            "partial": self.partial,
            "safety_checker": self.safety_checker,
            "defenses": tuple(defenses),
        }


_READERS: dict[str, _Reader] = {setting.name: setting.metadata["reader"] for setting in fields(Settings)}
_SETTINGS = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """Return the session's settings, read once.

    Raises:
        pytest.UsageError: as ``Settings.from_config``.
    """
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = Settings.from_config(config)
    return config.stash[_SETTINGS]


def find_option(option: Option, config: pytest.Config) -> RawOption | None:
    """Return the text of an option and where it was given first, or None."""
    if (text := config.getoption(option.ini)) is not None:
        text = ",".join(text) if option.repeatable else text
        return RawOption(option.flag, text, config.invocation_params.dir)
    if (value := config.getini(option.ini)) not in (None, ""):
        return RawOption(f"ini option {option.ini}", str(value), config.rootpath)
    return None


def command_line_options(config: pytest.Config) -> list[tuple[Option, str]]:
    """Return every option that the session was given, with its text for a command line in the starting folder."""
    start = config.invocation_params.dir
    raw_options = ((option, find_option(option, config)) for option in OPTIONS)
    return [(option, _READERS[option.name].form.relocate(raw, start)) for option, raw in raw_options if raw is not None]


def write_option(option: Option, text: str) -> str:
    """Return an option as it stands on a command line; empty for a flag that is not set."""
    if option.metavar:
        return f"{option.flag}={text}"
    return option.flag if parsers.parse_bool(text) else ""


def without_secrets(argument: str) -> str:
    """Return a command-line argument with its URL stripped of password and query, for reports that others read."""
    if "://" not in argument:
        return argument
    flag, equals, url = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    return f"{flag}{equals}{redact_url(url)}"


def _read(option: Option, raw: RawOption, config: pytest.Config) -> Any:
    """Read the value of an option that was given.

    Raises:
        pytest.UsageError: it is malformed, or leads nowhere.
    """

    def say(text: str) -> None:
        if config.get_verbosity() >= 0:
            tell(config, f"unlearndiff: {text}\n")

    reader = _READERS[option.name]
    try:
        if not raw.text:
            raise ValueError(f"nothing is given; leave it out, or give {option.metavar}")
        return reader.read(raw, say)
    except ValueError as error:  # the project's own errors are ValueErrors too
        form = f"{short_repr(raw.text, 200)} must be {error}" if reader.states_form and raw.text else str(error)
        raise pytest.UsageError(f"{raw.origin}: {printable(form, 1_500)}") from None
