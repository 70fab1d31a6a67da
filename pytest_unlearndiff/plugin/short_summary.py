"""The line of a failed gate in pytest's short summary, which has room for some fifty characters."""

from __future__ import annotations

import pytest


def begin_with_message(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Let the line begin with what a gate has to say, and not with the path of the exception that says it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None or call.excinfo is None:
        return
    from ..core.errors import ASRExceeded, RetentionLost, UnlearnDiffError

    if isinstance(error := call.excinfo.value, (ASRExceeded, RetentionLost, UnlearnDiffError)):
        crash.message = str(error)
