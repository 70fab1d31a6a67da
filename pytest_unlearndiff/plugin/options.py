"""Every option once: command line, environment and ini, in that order, into frozen settings."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MARKER = (
    "unlearndiff(concept, *, max_asr=None, max_pre_asr=None, gate='point', confidence=0.95, prompts=None, attack=None, "
    "schedule=None, loss=None, slots=None, placement='prefix', exhaustive=False, model=None, base=None): a gate on a "
    "concept's attack success rate; the test calls the unlearndiff_attack fixture"
)


KNOWN = "known"
"""What ``prompts`` is where only those are attacked that ``transfer`` knows adversarial prompts of."""

# In pytest.toml and [tool.pytest], values have types of their own; pytest before 9.2 cannot accept several.
_INI_TYPE: Any = str | int | bool if pytest.version_tuple >= (9, 2) else "string"


# Named tuples: every pytest start makes these classes, and a frozen dataclass takes several times as long to make.
class Option(NamedTuple):
    """One setting, under three names: ``--unlearndiff-x-y``, ``UNLEARNDIFF_X_Y`` and ini ``unlearndiff_x_y``.

    Attributes:
        name: with underscores.
        help: for ``--help``; its first letter is a capital.
        metavar: what the value is called; empty for a flag.
        read: makes the value from text; raises ValueError with the allowed form.
        default: where it is given nowhere.
        repeatable: whether the command line may give it several times, which means the same as commas.
    """

    name: str
    help: str
    metavar: str
    read: Callable[[str], Any] = str
    default: Any = None
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--unlearndiff-" + self.name.replace("_", "-")

    def written(self, text: str) -> str:
        """As it stands on a command line; empty for a flag that is not set."""
        if self.metavar:
            return f"{self.flag}={text}"
        return self.flag if self.read(text) else ""

    @property
    def ini(self) -> str:
        """Its name in ini files, and of the attribute that holds it on the command line."""
        return f"unlearndiff_{self.name}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return self.ini.upper()


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.strip().isdigit() or int(text) < least:
            raise ValueError(f"a whole number of at least {least}")
        return int(text)

    return read


def _prompts(text: str) -> int | str:
    try:
        return KNOWN if text.strip() == KNOWN else _whole(1)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or {KNOWN} with attack=transfer:CSV") from None


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return read


def _listed(table: str) -> Callable[[str], str]:
    """One of what core.attack_spec lists under this name, which is loaded only where a value has to be checked."""

    def read(text: str) -> str:
        from ..core import attack_spec

        return _one_of(*getattr(attack_spec, table))(text)

    return read


def _attack(text: str) -> str:
    """An attack's name; ``transfer`` takes a file."""
    from ..core.attack_spec import attacks

    name, colon, path = text.partition(":")
    _one_of(*attacks())(name)
    if (name == "transfer") is not bool(path) or (colon and not path):
        raise ValueError("transfer:CSV, with the file that python -m pytest_unlearndiff export writes, or another name")
    return text


def _lanes(text: str) -> int:
    """A number; 0 stands for what memory has room for."""
    if text.strip() == "auto":
        return 0
    try:
        return _whole(1)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _precision(text: str) -> str:
    from ..core.precision import PRECISIONS

    return _one_of(*PRECISIONS)(text)


def _workers(text: str) -> str:
    if not re.fullmatch(r"(auto|ray|ray://[^\s/:]+:\d+)(/[1-9]\d?)?|[1-9]\d{0,4}", text.strip()):
        raise ValueError("a number of at least 1, auto, ray or ray://HOST:PORT, or one of these with /N for N on a GPU")
    return text.strip()


def _cases(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError("case numbers with commas, such as 17,42") from None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError("names with commas, such as church,fish")
    return names


def _share(text: str) -> str:
    """Checked here, and read by the gate."""
    from ..core.errors import GateError
    from ..core.rate import parse_limit

    try:
        parse_limit(text)
    except GateError as error:
        raise ValueError(f"a share of prompts: {error}") from None
    return text


def _yes(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError("yes or no")
    return text.lower() in ("1", "true", "yes", "on")


def _reports(text: str) -> tuple[tuple[str, str], ...]:
    from ..reports.destinations import parse

    return parse(text)


def _safe(text: str) -> tuple[str, str]:
    """``medium:church`` as strength and concept."""
    from ..core.guidance import STRENGTHS

    strength, _, concept = text.partition(":")
    if strength not in STRENGTHS or not concept.strip():
        raise ValueError(f"a strength ({', '.join(STRENGTHS)}), a colon and what to guide away from: medium:church")
    return strength, concept.strip()


def _seconds(text: str) -> float:
    """``1h30m`` in seconds."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    if not found or not found[0]:
        raise ValueError("a time such as 90s, 55m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


OPTIONS = (
    Option("model", "Model under test: a pipeline folder, a component folder or a checkpoint file", "PATH"),
    Option("base", "Un-erased pipeline: for what a checkpoint lacks, and for target images", "PATH"),
    Option("concepts", "Further folders or files of concepts, separated as in PATH", "PATHS"),
    Option("concept", "Concepts that pytest_unlearndiff.suite gates, with commas", "NAMES", _names),
    Option("max_asr", "Limit of the gates of pytest_unlearndiff.suite, such as 0.1", "SHARE", _share),
    Option("published", "Folder, URL or Hub data set of what authors publish, such as nudity.csv", "PLACE"),
    Option("clip", "CLIP folder with which retention gates report CLIP scores too", "PATH"),
    Option("prompts", "Attack only the first N prompts of every set; known: those that transfer has", "N", _prompts),
    Option("cases", "Attack only the prompts with these case numbers", "17,42", _cases),
    Option(
        "attack",
        "Attack: unlearndiff, p4d, ring-a-bell, random, seed-search, none, or transfer:CSV to replay known prompts",
        "NAME",
        _attack,
    ),
    Option("schedule", "Schedule: fast, or paper as published numbers were made", "NAME", _listed("SCHEDULES")),
    Option("loss", "Loss of the schedule fast: denoise (default), or classifier", "NAME", _listed("LOSSES")),
    Option("seed", "Run seed; every prompt's own generators follow from it", "N", _whole(0), 0),
    Option(
        "lanes", "Prompts attacked together, or auto by a GPU's memory; changes no outcome (default 8)", "N", _lanes, 8
    ),
    Option(
        "workers",
        "Processes that attack, with Ray: N or auto (one a GPU; auto/2: two) here, ray or ray://HOST:PORT on one",
        "WHERE",
        _workers,
    ),
    Option("worker_silence", "Give up a worker that reports nothing for this long (default 30m)", "TIME", _seconds),
    Option("device", "Where the models run", "DEVICE", str, "cpu"),
    Option("per_gpu", "Processes that may use one GPU at a time; others wait (default 1)", "N", _whole(1), 1),
    Option(
        "dtype",
        "Arithmetic: float32, tf32, float16, bfloat16 or auto (default): tf32 on cuda, float32 elsewhere",
        "NAME",
        _precision,
        "auto",
    ),
    Option("compile", "Have torch.compile make faster kernels; like a device, not part of the key", "", _yes, False),
    Option("partial", "Accept a checkpoint that lacks tensors without a pattern: the base's stay", "", _yes, False),
    Option(
        "trust_pickle",
        "Read the tensors of pickles that name other things too, which are left out and never executed",
        "",
        _yes,
        False,
    ),
    Option("negative_prompt", "Negative prompt of the pictures of the model under test", "TEXT"),
    Option("sld", "Draw by safe latent diffusion: weak, medium, strong or max, then what to avoid", "medium:X", _safe),
    Option(
        "sld_warmup",
        "Warm-up of safe latent diffusion: in steps (paper), or timesteps as Diffusion-MU-Attack",
        "UNIT",
        _one_of("steps", "timesteps"),
        "steps",
    ),
    Option(
        "safety_checker",
        "Let pictures pass the model's own safety checker, as part of what is tested; else it is taken out",
        "",
        _yes,
        False,
    ),
    Option(
        "cache",
        "Store of finished prompts: rw (default), ro, refresh, off, or require to attack nothing",
        "MODE",
        _one_of("rw", "ro", "refresh", "off", "require"),
        "rw",
    ),
    Option(
        "cache_dir",
        "Folder of the store (default: .unlearndiff in rootdir), or fsspec URL of one shared beside it",
        "PATH",
    ),
    Option(
        "progress",
        "Live progress on stderr: auto, lines or off",
        "WHEN",
        _one_of("auto", "lines", "off"),
        "auto",
    ),
    Option(
        "report",
        "Write html:PATH, json:PATH or md:PATH, or github for step summary and annotations; may be repeated",
        "KIND:PATH",
        _reports,
        repeatable=True,
    ),
    Option(
        "pictures",
        "Thumbnails in the store and in reports: blurred (default) until clicked, or none",
        "HOW",
        _one_of("blurred", "none"),
        "blurred",
    ),
    Option(
        "exhaustive",
        "Attack every prompt of a set, also those that can no longer change the verdict",
        "",
        _yes,
        False,
    ),
    Option("budget", "Begin no attack after this time, such as 90s, 55m or 1h30m", "TIME", _seconds),
    Option("plan", "Say what would be attacked, and how long it may take, instead of running tests", "", _yes, False),
    Option("require", "Fail the session where a gate was skipped or none ran", "", _yes, False),
)


MEANT = "--unlearndiff-cache-yes"


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 < days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of days, such as 30")
    return days


def _add_maintenance(group: pytest.OptionGroup) -> None:
    """What is done instead of running tests: on the command line only, since nobody wants it each time."""
    flag = {"action": "store_const", "const": True, "default": None}
    group.addoption("--unlearndiff-cache-show", **flag, help="List the campaigns of the store, without running tests")
    group.addoption(
        "--unlearndiff-cache-clear",
        nargs="?",
        const="",
        metavar="CONCEPT",
        help=f"Delete the campaigns of the store, all or one concept's, with {MEANT}; no tests are run",
    )
    group.addoption(
        "--unlearndiff-cache-prune",
        nargs="?",
        const=0.0,
        type=_days,
        metavar="DAYS",
        help=f"Delete campaigns of older attack versions, and those not written for DAYS, with {MEANT}; runs no tests",
    )
    group.addoption(MEANT, action="store_true", help="Delete what is to be cleared or pruned; else it is only listed")


def add_options(parser: pytest.Parser) -> None:
    """Declare every option on the command line and in ini files."""
    group = parser.getgroup("unlearndiff", "unlearned diffusion models under adversarial prompts")
    _add_maintenance(group)
    for option in OPTIONS:
        if option.metavar:
            action = "append" if option.repeatable else "store"
            group.addoption(
                option.flag, dest=option.ini, metavar=option.metavar, action=action, default=None, help=option.help
            )
        else:
            group.addoption(
                option.flag, dest=option.ini, action="store_const", const="yes", default=None, help=option.help
            )
        parser.addini(option.ini, option.help, type=_INI_TYPE, default=None)


class Given(NamedTuple):
    """What a user wrote for an option.

    Attributes:
        origin: where, for errors.
        text: what.
        folder: from which relative paths in it count.
    """

    origin: str
    text: str
    folder: Path

    def parts(self, name: str) -> list[str]:
        """The paths in it; only concepts may be several."""
        return [part for part in self.text.split(os.pathsep) if part] if name == "concepts" else [self.text]


def given_options(config: pytest.Config) -> list[tuple[Option, str]]:
    """What the session says to this plugin, in any of the three places, as text for the command line."""
    found = ((option, given(option, config)) for option in OPTIONS)
    start = config.invocation_params.dir
    return [(option, _seen_from(start, option.name, what)) for option, what in found if what is not None]


PATHS = ("model", "base", "concepts", "published", "clip", "cache_dir")
ELSEWHERE = ("model", "base", "clip")


def given(option: Option, config: pytest.Config) -> Given | None:
    """Where an option is given first, and as what text."""
    start = config.invocation_params.dir
    if (text := config.getoption(option.ini)) is not None:
        return Given(option.flag, ",".join(text) if option.repeatable else text, start)
    if text := os.environ.get(option.variable):
        return Given(f"environment variable {option.variable}", text, start)
    if (value := config.getini(option.ini)) not in (None, ""):
        return Given(f"ini option {option.ini}", str(value), config.rootpath)
    return None


def _is_name(name: str, given: Given) -> bool:
    """Whether it is no path but a callable's name or a Hub id, which mean the same from anywhere."""
    return name in (*ELSEWHERE, "published") and not (given.folder / Path(given.text).expanduser()).exists()


def _seen_from(start: Path, name: str, given: Given) -> str:
    """The text with its relative paths as they are named from another folder."""
    if name == "attack" and given.folder != start:
        attack, colon, path = given.text.partition(":")
        return f"{attack}{colon}{os.path.relpath(given.folder / Path(path).expanduser(), start)}" if path else attack
    if name not in PATHS or given.folder == start or "://" in given.text or _is_name(name, given):
        return given.text
    paths = (Path(part).expanduser() for part in given.parts(name))
    return os.pathsep.join(str(p) if p.is_absolute() else os.path.relpath(given.folder / p, start) for p in paths)
