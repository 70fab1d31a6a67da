"""Start of a session that has options or plugins: both are checked before anything is collected."""

from __future__ import annotations

from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import pytest

from ..core.device import foreseen_in_words, refused
from ..core.errors import GateError
from ..core.registry import Registry, registry, set_registry
from .option_paths import expand_home, is_there
from .options import OPTIONS
from .settings import Settings, settings_of

_IMPLEMENTATIONS = pytest.StashKey[int]()


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
        from ..models import device as devices  # needs torch

        why = devices.device_problem(settings.device)
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
