"""--unlearndiff-cache-show, -clear and -prune: what the commands of those names do, on this session's store."""

from __future__ import annotations

import argparse

import pytest

from ..cli import clear, prune, show
from ..core.errors import UnlearnDiffError
from .options import MEANT
from .session import state_of


def maintain(config: pytest.Config) -> int:
    """Do what was asked, instead of running tests.

    Returns:
        Exit status, as the command's.

    Raises:
        pytest.UsageError: two things are asked at once, or the store may not be changed or cannot be used.
    """
    option = config.option
    asked = {
        "show": (show, option.unlearndiff_cache_show, {}),
        "clear": (clear, option.unlearndiff_cache_clear, {"concept": option.unlearndiff_cache_clear or None}),
        "prune": (prune, option.unlearndiff_cache_prune, {"days": option.unlearndiff_cache_prune or None}),
    }
    wanted = [(name, command, more) for name, (command, given, more) in asked.items() if given is not None]
    if len(wanted) > 1:
        raise pytest.UsageError("--unlearndiff-cache-show, -clear and -prune: give one of them")
    name, command, more = wanted[0]
    store = state_of(config).store
    if name != "show" and not store.mode.writes:
        raise pytest.UsageError(
            f"--unlearndiff-cache-{name}: nothing may be deleted with --unlearndiff-cache={store.mode.value}"
        )
    arguments = argparse.Namespace(cache_dir=store.root, yes=option.unlearndiff_cache_yes, meant=MEANT, **more)
    try:
        return int(command.run(arguments))
    except UnlearnDiffError as error:
        raise pytest.UsageError(f"--unlearndiff-cache-{name}: {error}") from None
