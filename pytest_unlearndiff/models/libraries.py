"""The libraries that models are made of: telling their own code from a user's, and silencing their advice."""

from __future__ import annotations

import functools
import logging
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

LIBRARIES = frozenset(
    {
        *("accelerate", "diffusers", "huggingface_hub", "imwatermark", "numpy", "peft", "PIL"),
        *("pytest_unlearndiff", "safetensors", "tokenizers", "torch", "transformers", "xformers"),
        # ``unittest`` has objects that stand in for others, and do what a user tells them.
        *(sys.stdlib_module_names - {"unittest", "__main__"}),
    }
)
"""Packages whose classes and functions are identified by their names."""

HELPERS = LIBRARIES | {
    *("einops", "filelock", "flash_attn", "ftfy", "httpx", "jinja2", "kernels", "packaging", "regex", "requests"),
    *("scipy", "sentencepiece", "torchvision", "tqdm", "triton", "typing_extensions", "yaml"),
}
"""Packages from which the libraries import functions and decorators."""


def qualified_name(thing: Any) -> str:
    """Return the qualified name of a class or function, or of an object's class."""
    if isinstance(thing, functools.partial):
        return qualified_name(thing.func)
    if isinstance(thing, types.MethodType):
        return qualified_name(thing.__func__)
    if isinstance(thing, property):
        return qualified_name(thing.fget)
    if isinstance(thing, (classmethod, staticmethod)):
        return qualified_name(thing.__func__)
    named = thing if isinstance(thing, (type, types.FunctionType, types.BuiltinFunctionType)) else type(thing)
    return f"{origin(named) or named.__module__}.{named.__qualname__}"


def origin(thing: Any) -> str:
    """Return the module in which a function was written, which ``functools.wraps`` does not change."""
    if isinstance(thing, types.FunctionType):
        return str(thing.__globals__.get("__name__", ""))
    if isinstance(thing, types.MethodType):
        return origin(thing.__func__)
    return str(getattr(thing, "__module__", "") or "")


def is_library_class(kind: type) -> bool:
    """Tell whether a library's module holds this class under its name."""
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        return False
    current: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        current = getattr(current, name, None)
    return current is kind or kind.__module__ == "builtins"


def is_library_code(function: Any, packages: frozenset[str] = LIBRARIES) -> bool:
    """Tell whether a callable, and what it wraps, is a library's own code."""
    if isinstance(function, functools.partial):
        return is_library_code(function.func, packages)
    if isinstance(function, types.MethodType):
        return is_library_code(function.__func__, packages)
    if isinstance(function, type):
        return is_library_class(function)
    if isinstance(function, types.FunctionType):
        trusted = origin(function).partition(".")[0] in packages
    else:
        trusted = is_library_class(type(function))
    inner = vars(function).get("__wrapped__") if trusted and hasattr(function, "__dict__") else None
    return trusted and (inner is None or inner is function or is_library_code(inner, packages))


def code_of(value: Any) -> Iterator[Any]:
    """Yield the functions in an attribute of a class."""
    if isinstance(value, property):
        yield from filter(None, (value.fget, value.fset, value.fdel))
    elif isinstance(value, (classmethod, staticmethod)):
        yield value.__func__
    elif isinstance(value, functools.cached_property):
        yield value.func
    elif callable(value) and not isinstance(value, type):
        yield value


def is_own_method(owner: Any, name: str, value: Any) -> bool:
    """Tell whether an attribute is the bound method of the object's own class."""
    return (
        isinstance(value, types.MethodType)
        and value.__self__ is owner
        and value.__func__ is getattr(type(owner), name, None)
    )


def compiled_module(module: Any) -> torch.nn.Module | None:
    """Return the module that ``torch.compile`` compiled; None for a module that it did not make."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # without which nothing was compiled
    return module._orig_mod if compiler is not None and type(module) is compiler.OptimizedModule else None


def cell_content(cell: Any) -> Any:
    """Return the content of a closure's cell; None where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def uncompiled(module: Any) -> Any:
    """Return a network without what ``torch.compile`` put around it."""
    return inner if (inner := compiled_module(module)) is not None else module


@contextmanager
def silence_libraries() -> Iterator[None]:
    """No bars of the libraries, and no advice about models that they load, which are the user's business alone."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in both]
    try:
        for each in both:
            each.disable_progress_bar()
            each.set_verbosity_error()
        yield
    finally:
        for each, level, bars in before:
            each.set_verbosity(level)
            if bars:
                each.enable_progress_bar()


@contextmanager
def library_warnings_ignored() -> Iterator[None]:
    """Ignore deprecations that diffusers and transformers raise about their own code.

    They are nobody's news in a gate, and a suite with ``filterwarnings = error`` would fail on them.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(diffusers|transformers|huggingface_hub)\.")
        yield


@contextmanager
def silence_safety_checker() -> Iterator[None]:
    """No line a batch about images that a safety checker blackened: an attack draws hundreds."""
    logger = logging.getLogger("diffusers.pipelines.stable_diffusion.safety_checker")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def compiled_calls() -> Iterator[None]:
    """Let ``torch.compile`` trace without a warning, and again where hooks on modules have changed.

    It looks at what warns, and an error there ends it. By default it guards no hooks, and would go on without those of
    a defense, as it traced another network of the class, or with those of one that is gone.
    """
    with warnings.catch_warnings(), torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
        warnings.simplefilter("ignore")
        yield
