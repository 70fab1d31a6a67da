"""Floor 4: one writer each. They say what floors 0 to 3 found; they decide nothing."""

from __future__ import annotations

from ..core.registry import ReportInfo

ROWS: tuple[ReportInfo, ...] = ()
