"""Judges and attacks of other plugins, made known to this process."""

from __future__ import annotations

from functools import partial
from itertools import chain

import pluggy
import pytest

_KNOWN = pytest.StashKey[int]()


def plug(config: pytest.Config) -> None:
    """Ask the hooks, and again where a conftest.py with such a hook was found since.

    Raises:
        GateError: a judge or an attack of a plugin cannot be meant.
    """
    hooks = _hooks(config)
    known, count = config.stash.get(_KNOWN, 0), sum(len(hook.get_hookimpls()) for hook in hooks)
    if count == known:
        return
    from ..core.attack_config import ATTACKS
    from ..core.judge_options import KINDS
    from ..core.registry import PluginRegistry, plugged, set_registry

    kinds = chain.from_iterable(given for hook in hooks for given in hook(config=config))
    if not known:
        config.add_cleanup(partial(set_registry, plugged()))
    set_registry(PluginRegistry.of(kinds, KINDS, ATTACKS))
    config.stash[_KNOWN] = count


def _hooks(config: pytest.Config) -> tuple[pluggy.HookCaller, ...]:
    return config.hook.pytest_unlearndiff_judges, config.hook.pytest_unlearndiff_attacks


def plug_early(config: pytest.Config) -> None:
    """``plug``, where nothing is collected yet.

    Raises:
        pytest.UsageError: as ``plug``'s.
    """
    if not any(hook.get_hookimpls() for hook in _hooks(config)):
        return
    from ..core.errors import GateError

    try:
        plug(config)
    except GateError as error:
        raise pytest.UsageError(str(error)) from None
