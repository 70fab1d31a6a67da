"""``pkg.mod:callable``: a model that a function of the user's own makes."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

_SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_string(model: str | Path | None) -> bool:
    """Whether this is spelt as a callable in a module, and is no path."""
    return model is not None and bool(_SPELLING.fullmatch(str(model))) and not Path(model).exists()


def imported(spelt: str) -> Any:
    """The callable that ``package.module:callable`` names.

    Raises:
        ImportError: there is no such module, nothing of this name in it, or it cannot be called.
    """
    module, _, name = spelt.partition(":")
    try:
        function = reduce(getattr, name.split("."), import_module(module))
    except AttributeError as error:
        raise ImportError(f"{spelt}: {error}") from None
    except ImportError as error:
        raise ImportError(f"{spelt}: {error}; the module has to be importable, as with pytest's pythonpath") from None
    if not callable(function):
        raise ImportError(f"{spelt} is a {type(function).__name__}, which cannot be called")
    return function


def make(spelt: str) -> Any:
    """What the callable gives, called without arguments.

    Raises:
        ModelError: there is no such callable, or it raises.
    """
    try:
        function = imported(spelt)
    except ImportError as error:
        raise ModelError(str(error)) from None
    try:
        return function()
    except Exception as error:
        raise ModelError(f"{spelt} raised {type(error).__name__}: {error}") from error
