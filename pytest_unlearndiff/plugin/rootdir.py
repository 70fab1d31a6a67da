"""A path that pytest takes for a folder of tests, because a space stands before it, moves rootdir."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from .option_sources import expanded, is_there
from .options import OPTIONS


def check_rootdir(config: pytest.Config) -> None:
    """Refuse a session whose ini file and store would be somebody else's.

    pytest looks for its ini file before it knows the options of plugins. In ``--unlearndiff-model /models/x.pt`` the
    path then looks like a place of tests: rootdir becomes ``/models``, and the project's own ini file is not read.

    Raises:
        pytest.UsageError: that happened.
    """
    if hasattr(config, "workerinput") or config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    start = config.invocation_params.dir
    if not _moved(config, start):
        return
    arguments = [str(argument) for argument in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.metavar}
    for flag, text in pairwise(arguments):
        if flag in flags and is_there(start / expanded(text)):
            raise pytest.UsageError(
                f"{flag} {text}: pytest takes what stands behind a space for a place of tests when it looks for its "
                f"ini file, and so has made {config.rootpath} its rootdir. Write {flag}={text}"
            )


def _moved(config: pytest.Config, start: Path) -> bool:
    """Whether rootdir is not where one belongs to the folder that pytest was started in."""
    above = (start, *start.parents)
    if config.inipath is not None:
        return config.inipath.parent not in above
    root = config.rootpath
    return root != start and not (root in above and (root / "setup.py").is_file())
