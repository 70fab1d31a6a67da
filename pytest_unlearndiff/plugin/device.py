"""The device that models run on: refused before anything is loaded, and said in pytest's header."""

from __future__ import annotations

import pytest

from .settings import Settings


def check_device(config: pytest.Config, settings: Settings) -> None:
    """Refuse a device that is not here, unless models run elsewhere or not at all.

    Only where torch alone can tell is it imported, and only for a device that was asked for by name.

    Raises:
        pytest.UsageError: names the device and the remedy.
    """
    elsewhere = settings.workers is not None or hasattr(config, "workerinput")
    if elsewhere or settings.plan or settings.cache == "require" or settings.device in ("auto", "cpu"):
        return
    from ..core.device import refused

    if (why := refused(settings.device)) is None:
        from ..models import devices

        why = devices.refused(settings.device)
    if why:
        raise pytest.UsageError(f"--unlearndiff-device={settings.device}: {why}")


def device_line(settings: Settings) -> str:
    """Where models run, in one line."""
    where = settings.device
    if settings.workers is not None:
        said = "the GPUs of workers, or their CPUs where they have none" if where == "auto" else f"workers' {where}"
        return f"unlearndiff: device {said}"
    if where != "auto":
        return f"unlearndiff: device {where}"
    from ..core.device import foreseen_in_words

    return f"unlearndiff: device auto: {foreseen_in_words()}"
