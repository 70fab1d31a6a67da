"""Import strings ``package.module:callable``, and content hashes of a judge's functions and files."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.concept import JudgeConfig
from ..core.errors import JudgeError, ModelError
from ..core.judge_options import parts_of
from ..core.registry import registry
from ..store.key import Fingerprints, digest

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_string(model: str | Path | None) -> bool:
    """Tell whether text has the form ``package.module:callable`` and is no existing path."""
    return model is not None and bool(_FORM.fullmatch(str(model))) and not Path(model).exists()


def import_string(text: str) -> Any:
    """Import the callable that ``package.module:callable`` names.

    Raises:
        ImportError: there is no such module, nothing of this name in it, or it cannot be called.
    """
    module, _, name = text.partition(":")
    try:
        function = reduce(getattr, name.split("."), import_module(module))
    except AttributeError as error:
        raise ImportError(f"{text}: {error}") from None
    except ImportError as error:
        raise ImportError(f"{text}: {error}; the module has to be importable, as with pytest's pythonpath") from None
    if not callable(function):
        raise ImportError(f"{text} is a {type(function).__name__}, which cannot be called")
    return function


def call_factory(text: str) -> Any:
    """Call the callable that an import string names, without arguments, and return its result.

    Raises:
        ModelError: there is no such callable, or it raises.
    """
    try:
        factory = import_string(text)
    except ImportError as error:
        raise ModelError(str(error)) from None
    try:
        return factory()
    except Exception as error:
        raise ModelError(f"{text} raised {type(error).__name__}: {error}") from error


def judge_weights(config: JudgeConfig, fingerprints: Fingerprints) -> str:
    """Hash a judge's files to 16 hex digits; a Hub id stands for itself.

    Raises:
        JudgeError: the judge is a function whose module is not there.
        StoreError: a file cannot be read.
    """
    if parts := parts_of(config):
        return digest([judge_weights(part, fingerprints) for part in parts])
    info = registry().judges[config.kind]
    digests = [_hash(str(config.options[name]), fingerprints) for name in info.files if name in config.options]
    digests += [
        fingerprints.of(source_file(str(config.options[name]))) for name in info.sources if name in config.options
    ]
    if not digests:
        return (info.bundled or "")[:16]
    return digests[0] if len(digests) == 1 else digest(digests)


def _hash(name: str, fingerprints: Fingerprints) -> str:
    path = Path(name)
    return fingerprints.of(path) if path.exists() else name


def source_file(call: str) -> Path:
    """Find the file that defines ``package.module:function``, whose content stands for the function.

    Raises:
        JudgeError: there is no such module, or it is not a file.
    """
    module = call.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise JudgeError(f"judge function {call}: there is no file of a module {module!r} on Python's path")
    return Path(spec.origin)
