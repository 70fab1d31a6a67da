"""Checks of a session that is given options, before anything is collected, and the line that names its device."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ..core.device import foreseen_in_words, refused
from .option_paths import expand_home, is_there
from .options import OPTIONS
from .registration import register_early
from .settings import Settings, settings_of


def check_session(config: pytest.Config) -> bool:
    """Register what plugins add, read the settings, and refuse those that this session cannot follow.

    Returns:
        Whether the session needs the rest of the plugin even if it has no gates, or collects none itself.

    Raises:
        pytest.UsageError: an option or a row of a plugin is malformed, a path leads nowhere, or the device is not on
            this machine.
    """
    register_early(config)  # options may name attacks of plugins
    check_rootdir(config)
    settings = settings_of(config)
    check_device(config, settings)
    check_workers(config, settings)
    return settings.plan or settings.require or config.getoption("dist", "no") != "no"


def check_rootdir(config: pytest.Config) -> None:
    """Refuse a session whose ini file and store would be those of another project.

    pytest looks for its ini file before it knows the options of plugins. In ``--unlearndiff-model /models/x.pt`` the
    path then looks like an argument that names tests: rootdir becomes ``/models``, and the project's own ini file is
    not read.

    Raises:
        pytest.UsageError: that happened.
    """
    if hasattr(config, "workerinput") or config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    start = config.invocation_params.dir
    if not _has_moved(config, start):
        return
    arguments = [str(argument) for argument in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.metavar}
    for flag, text in pairwise(arguments):
        if flag in flags and is_there(start / expand_home(text)):
            raise pytest.UsageError(
                f"{flag} {text}: pytest takes what stands behind a space for a place of tests when it looks for its "
                f"ini file, and so has made {config.rootpath} its rootdir. Write {flag}={text}"
            )


def _has_moved(config: pytest.Config, start: Path) -> bool:
    """Whether rootdir is not where it belongs for the folder that pytest was started in."""
    above = (start, *start.parents)
    if config.inipath is not None:
        return config.inipath.parent not in above
    root = config.rootpath
    return root != start and not (root in above and (root / "setup.py").is_file())


def check_device(config: pytest.Config, settings: Settings) -> None:
    """Refuse a device that is not on this machine, unless models run elsewhere or not at all.

    torch is imported only where it alone can tell, and only for a device that was asked for by name.

    Raises:
        pytest.UsageError: names the device and the remedy.
    """
    elsewhere = settings.workers is not None or hasattr(config, "workerinput")
    if elsewhere or settings.plan or settings.cache == "require" or settings.device in ("auto", "cpu"):
        return
    if (why := refused(settings.device)) is None:
        from ..models import devices  # needs torch

        why = devices.refused(settings.device)
    if why:
        raise pytest.UsageError(f"--unlearndiff-device={settings.device}: {why}")


def check_workers(config: pytest.Config, settings: Settings) -> None:
    """Refuse workers of Ray beside processes of xdist.

    Raises:
        pytest.UsageError: names both options.
    """
    if settings.workers is not None and not settings.plan and getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError(
            f"--unlearndiff-workers={settings.workers} and -n (pytest-xdist) both start processes that attack: leave "
            "one of them out"
        )


def device_line(config: pytest.Config) -> str:
    """Say in one line where models run."""
    settings = settings_of(config)
    device = settings.device
    if settings.workers is not None:
        gpus = "the GPUs of workers, or their CPUs where they have none"
        return "unlearndiff: device " + (gpus if device == "auto" else f"workers' {device}")
    if device != "auto":
        return f"unlearndiff: device {device}"
    return f"unlearndiff: device auto: {foreseen_in_words()}"
