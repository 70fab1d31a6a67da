"""A command, and the arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ..core import device, untrusted
from ..core.concept_file import ConceptLibrary
from ..core.errors import ModelError, redact_url
from ..core.prompt_sets import locate_prompt_set
from ..sources.download import PromptSetCache
from ..sources.resolve import resolve_model_path, resolve_models

BASE_HELP = "the un-erased pipeline: a folder, a URL, or a Hub id that is on this machine"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Command:
    """A subcommand of ``python -m pytest_unlearndiff``.

    Attributes:
        name: as it is typed.
        summary: one line for ``--help``.
        add_arguments: declares its arguments.
        run: runs it and returns the exit status: 0 for success, 1 if the answer is no.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def argument_type(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """Make a parser whose ValueError completes "TEXT must be ..." one that argparse can use."""

    def parse_argument(text: str) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{untrusted.short_repr(text)} must be {error}") from None

    return parse_argument


@argument_type
def parse_count(text: str) -> int:
    """Parse a whole number of at least 1."""
    return untrusted.parse_int(text, 1, untrusted.MOST_COUNT)


parse_days = argument_type(untrusted.parse_days)
parse_device = argument_type(device.read_device)


def with_own_options(text: str, names: Iterable[str]) -> str:
    """Spell options of pytest in a message as a command does that has them, ``--base`` for ``--unlearndiff-base``.

    Args:
        text: the message.
        names: of the command's arguments, such as ``trust_pickle``.
    """
    own = set(names)
    return re.sub(
        r"--unlearndiff-([a-z-]*[a-z])",
        lambda option: f"--{option[1]}" if option[1].replace("-", "_") in own else option[0],
        text,
    )


def load(name: str) -> Any:
    """Import something of this package that needs an extra.

    Args:
        name: such as ``judges.q16:convert``.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"pytest_unlearndiff.{module}"), attribute)


def parse_path(text: str) -> Path:
    """Parse the path of a file or folder, which need not exist.

    Raises:
        argparse.ArgumentTypeError: no file can have this name, or a pipe or a device has it.
    """
    try:
        untrusted.find_path(text, Path())
        return untrusted.parse_path(text, Path())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{untrusted.short_repr(text)} {error}") from None


def parse_store(text: str) -> Path:
    """Parse the folder of a store, which need not exist.

    Raises:
        argparse.ArgumentTypeError: it is the URL of a shared store, or no folder can have this name.
    """
    if "://" in text:
        url = redact_url(text)
        raise argparse.ArgumentTypeError(f"{url} is a shared store: bring it here with pull {url}, into --cache-dir")
    return parse_path(text)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Declare the store's folder."""
    parser.add_argument(
        "--cache-dir", type=parse_store, default=Path(".unlearndiff"), help="the store (default: %(default)s)"
    )


def add_concepts(parser: argparse.ArgumentParser) -> None:
    """Declare folders of concepts, and of the prompt sets they need that do not come with this project."""
    parser.add_argument(
        "--concepts", type=parse_path, action="append", default=[], help="folder or file of concepts; repeat"
    )
    parser.add_argument("--prompt-sets", help="folder, URL or Hub data set of what authors publish, such as nudity.csv")


def concept_library(arguments: argparse.Namespace) -> ConceptLibrary:
    """Build the library of concepts that the arguments of ``add_concepts`` describe."""
    prompt_sets = locate_prompt_set(arguments.prompt_sets, Path()) if arguments.prompt_sets else None
    return ConceptLibrary([Path("concepts"), *arguments.concepts], prompt_sets, PromptSetCache(arguments.cache_dir))


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare the device that models run on."""
    choices = "cpu, cuda, cuda:N, mps, or auto: CUDA, else MPS where it works, else the CPU"
    parser.add_argument(
        "--device",
        type=parse_device,
        default=device.AUTO,
        help=f"device of the models: {choices} (default: %(default)s)",
    )


def check_device(name: str) -> None:
    """Refuse a device that this machine lacks, before anything is loaded.

    Raises:
        ModelError: names it and the remedy.
    """
    if (reason := device.explain_unavailable(name)) is None:
        from ..models import device as devices

        reason = devices.device_problem(name)
    if reason:
        raise ModelError(f"--device={name}: {reason}")


_MODEL_HINT = "Give a pipeline folder, a component folder, a checkpoint file, a URL or a downloaded Hub id"


def model_paths(text: str) -> tuple[Path, ...]:
    """Resolve a model and its adapters, or ``package.module:callable``, before torch is imported, which takes seconds.

    Args:
        text: as ``resolve_models``'s.

    Raises:
        ModelError: there is nothing.
    """
    return resolve_models(text, Path(), _MODEL_HINT, on_download=print)


def model_path(text: str) -> Path:
    """Resolve a model before torch is imported, which takes seconds.

    Args:
        text: a path, a URL, or the id of a Hub repository that is on this machine.

    Raises:
        ModelError: there is nothing.
    """
    return resolve_model_path(text, Path(), _MODEL_HINT, on_download=print)
