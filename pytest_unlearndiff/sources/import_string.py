"""Import strings ``package.module:callable``: objects that a module of the user's or of a plugin makes."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

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
