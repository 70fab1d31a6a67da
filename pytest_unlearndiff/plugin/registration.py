"""Rows that other plugins register, made known to this process."""

from __future__ import annotations

from functools import partial
from itertools import chain

import pytest

from ..core.errors import GateError
from ..core.registry import Registry, registry, set_registry

_IMPLEMENTATIONS = pytest.StashKey[int]()


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
