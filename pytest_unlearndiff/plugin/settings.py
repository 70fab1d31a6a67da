"""The settings of a session: every option's value, from the command line or the ini file, typed and checked.

They are read, and plugins' rows registered, before anything is collected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ..core.device import (
    AUTO,
    explain_unavailable,
    foreseen_gpu_or_cpu,
    foreseen_in_words,
    resolve_precision,
    unused_gpu,
)
from ..core.errors import GateError, redact_url
from ..core.model_options import DefenseConfig, defense, parse_defense
from ..core.registry import Registry, registry, set_registry
from ..core.untrusted import hint, printable, short_repr
from . import option_parsers as parsers
from .option_parsers import PathForm, RawOption, expand_home, is_there
from .options import OPTIONS, Option
from .suites import SUITES

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class _Reader:
    """Reader of a setting from text.

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
    """Settings of a session. See OPTIONS for the meaning of each field."""

    model: tuple[Path, ...] = _path(parsers.locate_model, (), PathForm.MODELS)
    model_version: str | None = _value(parsers.parse_version, None)
    base: Path | None = _path(parsers.locate_base, None, PathForm.PATH_OR_NAME)
    concepts: tuple[Path, ...] = _path(parsers.locate_concepts, (), PathForm.LIST)
    concept: tuple[str, ...] | None = _value(parsers.parse_names, None)
    suite: str | None = _value(parsers.one_of(*SUITES), None)
    max_asr: str | None = _value(parsers.parse_rate, None)
    max_recovery: str | None = _value(parsers.parse_rate, None)
    prompt_sets: Path | str | None = _path(parsers.locate_prompt_sets, None, PathForm.PATH_OR_NAME)
    prompts: int | str | None = _value(parsers.parse_prompts, None)
    case_numbers: tuple[int, ...] | None = _value(parsers.parse_case_numbers, None)
    attack: str | None = _path(parsers.locate_attack, None, PathForm.AFTER_COLON, states_form=True)
    schedule: str | None = _value(parsers.parse_schedule, None)
    images_per_prompt: int | None = _value(parsers.parse_images_per_prompt, None)
    loss: str | None = _value(parsers.parse_loss, None)
    seed: int = _value(parsers.parse_seed, 0)
    batch_size: int | None = _value(parsers.parse_batch_size, 8)
    workers: str | None = _value(parsers.parse_workers, None)
    worker_timeout: float | None = _value(parsers.parse_time, None)
    device: str = _value(parsers.parse_device, "auto")
    dtype: str = _value(parsers.parse_precision, "auto")
    compile: bool = _value(parsers.parse_bool, False)
    partial: bool = _value(parsers.parse_bool, False)
    trust_pickle: bool = _value(parsers.parse_bool, False)
    negative_prompt: str | None = _value(parsers.parse_text, None)
    sld: tuple[str, str] | None = _value(parsers.parse_sld, None)
    defense: DefenseConfig | None = _path(lambda raw, say: parse_defense(raw.text, raw.folder), None, PathForm.NONE)
    sld_warmup: str = _value(parsers.one_of("steps", "timesteps"), "steps")
    safety_checker: bool = _value(parsers.parse_bool, False)
    cache: str = _value(parsers.one_of("rw", "ro", "refresh", "off", "require"), "rw")
    cache_dir: Path | str = _path(parsers.locate_store, Path(".unlearndiff"), PathForm.PATH)
    progress: str = _value(parsers.one_of("auto", "lines", "off"), "auto")
    exhaustive: bool = _value(parsers.parse_bool, False)
    time_budget: float | None = _value(parsers.parse_time, None)
    plan: bool = _value(parsers.parse_bool, False)
    report: tuple[tuple[str, Path], ...] = _path(parsers.locate_reports, (), PathForm.NONE, states_form=True)
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
    def defenses(self) -> tuple[DefenseConfig, ...]:
        """Inference-time erasers of the model under test."""
        defenses = [] if self.defense is None else [self.defense]
        if self.negative_prompt is not None:
            defenses.append(defense("negative-prompt", prompt=self.negative_prompt))
        if self.sld is not None:
            strength, concept = self.sld
            defenses.append(
                defense("safe-latent-diffusion", strength=strength, concept=concept, warmup=self.sld_warmup)
            )
        return tuple(defenses)


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


def tell(config: pytest.Config, text: str) -> None:
    """Write to stderr, past pytest's capture."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
        sys.stderr.write(text)
        sys.stderr.flush()


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


_IMPLEMENTATIONS = pytest.StashKey[int]()


def check_session(config: pytest.Config, ini_names: Sequence[str] = ()) -> bool:
    """Register what plugins add, read the settings, and refuse those that this session cannot follow.

    Args:
        config: pytest's.
        ini_names: options with the plugin's prefix that the ini file holds.

    Returns:
        True where the session needs the rest of the plugin even if it has no gates, or collects none itself.

    Raises:
        pytest.UsageError: an option or a row of a plugin is malformed, a path leads nowhere, or the device is not on
            this machine.
    """
    register_early(config)  # options may name attacks of plugins
    check_rootdir(config)
    check_ini_names(config, ini_names)
    settings = settings_of(config)
    check_device(config, settings)
    check_workers(config, settings)
    return settings.plan or settings.require or config.getoption("dist", "no") != "no"


def check_flags(parser: pytest.Parser, arguments: Sequence[str]) -> None:
    """Refuse options with the plugin's prefix that nobody declares.

    Raises:
        pytest.UsageError: names the first one, and options that may be meant.
    """
    unknown = parser.parse_known_and_unknown_args(arguments)[1]
    for flag in (text.partition("=")[0] for text in unknown if text.startswith("--unlearndiff")):
        raise pytest.UsageError(_unknown(f"option {printable(flag, 200)}", flag, (option.flag for option in OPTIONS)))


def check_ini_names(config: pytest.Config, ini_names: Sequence[str]) -> None:
    """Refuse options of an ini file that have the plugin's prefix and are none of its own.

    Raises:
        pytest.UsageError: as ``check_flags``'s.
    """
    names = [option.ini for option in OPTIONS]
    for name in ini_names:
        if name not in names:
            raise pytest.UsageError(_unknown(f"option {printable(name, 200)} in {config.inipath}", name, names))


def _unknown(what: str, wrong: str, names: Iterable[str]) -> str:
    return f"there is no {what}: {hint(wrong, names)}"


def register_rows(config: pytest.Config) -> None:
    """Call the hook, and again where a conftest.py that implements it was collected since.

    Raises:
        GateError: a row is malformed, or its name is taken.
    """
    hook = config.hook.pytest_unlearndiff_register
    before, count = config.stash.get(_IMPLEMENTATIONS, 0), len(hook.get_hookimpls())
    if count == before:
        return
    if not before:
        config.add_cleanup(partial(set_registry, registry()))
    set_registry(Registry(chain.from_iterable(hook(config=config))))
    config.stash[_IMPLEMENTATIONS] = count


def register_early(config: pytest.Config) -> None:
    """Register the rows of plugins that are loaded before collection.

    Raises:
        pytest.UsageError: as ``register_rows``'s.
    """
    try:
        register_rows(config)
    except GateError as error:
        raise pytest.UsageError(str(error)) from None


def check_rootdir(config: pytest.Config) -> None:
    """Refuse a session whose ini file and store would be those of another project.

    pytest looks for its ini file before it knows the options of plugins. In ``--unlearndiff-model /models/x.pt`` the
    path then looks like an argument that names tests: rootdir becomes ``/models``, and the project's own ini file is
    not read.

    Raises:
        pytest.UsageError: that happened.
    """
    if hasattr(config, "workerinput") or config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    start = config.invocation_params.dir
    if not _has_moved(config, start):
        return
    arguments = [str(argument) for argument in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.metavar}
    for flag, text in pairwise(arguments):
        if flag in flags and is_there(start / expand_home(text)):
            raise pytest.UsageError(
                f"{flag} {text}: pytest takes what stands behind a space for a place of tests when it looks for its "
                f"ini file, and so has made {config.rootpath} its rootdir. Write {flag}={text}"
            )


def _has_moved(config: pytest.Config, start: Path) -> bool:
    """Tell whether rootdir is not where it belongs for the folder that pytest was started in."""
    above = (start, *start.parents)
    if config.inipath is not None:
        return config.inipath.parent not in above
    root = config.rootpath
    return root != start and not (root in above and (root / "setup.py").is_file())


def check_device(config: pytest.Config, settings: Settings) -> None:
    """Refuse a device that is not on this machine, unless models run elsewhere or not at all.

    torch is imported only where it alone can tell, and only for a device that was asked for by name.

    Raises:
        pytest.UsageError: names the device and the remedy.
    """
    elsewhere = settings.workers is not None or hasattr(config, "workerinput")
    if elsewhere or settings.plan or settings.cache == "require" or settings.device in ("auto", "cpu"):
        return
    if (why := explain_unavailable(settings.device)) is None:
        from ..models import device as devices  # needs torch

        why = devices.device_problem(settings.device)
    if why:
        raise pytest.UsageError(f"--unlearndiff-device={settings.device}: {why}")


def check_workers(config: pytest.Config, settings: Settings) -> None:
    """Refuse workers of Ray beside processes of xdist.

    Raises:
        pytest.UsageError: names both options.
    """
    if settings.workers is not None and not settings.plan and getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError(
            f"--unlearndiff-workers={settings.workers} and -n (pytest-xdist) both start processes that attack: leave "
            "one of them out"
        )


def device_line(config: pytest.Config) -> str:
    """Say in one line where models run, in which precision, and how many prompts are attacked together."""
    settings = settings_of(config)
    device, workers = settings.device, settings.workers is not None
    if workers:
        gpus = "the GPUs of workers, or their CPUs where they have none"
        where = gpus if device == AUTO else f"workers' {device}"
    else:
        where = f"auto: {foreseen_in_words()}" if device == AUTO else device
    foreseen = (foreseen_gpu_or_cpu() or AUTO) if device == AUTO and not workers else device
    size = "as many as memory has room for" if settings.batch_size is None else settings.batch_size
    line = f"unlearndiff: device {where}; precision {resolve_precision(settings.dtype, foreseen)}; batch size {size}"
    slow = foreseen == "cpu" and settings.dtype == "float16"
    notes = ["float16 takes some ten times as long as float32 on a CPU"] if slow else []
    return "; ".join([line, *notes, *filter(None, ["" if workers else unused_gpu(device)])])
