"""Gates that cannot be meant are a collection error, which stays clean under xdist."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import pytest

# Not on the report itself, whose attributes cross processes.
_REFUSED: WeakKeyDictionary[pytest.CollectReport, list[pytest.Item | pytest.Collector]] = WeakKeyDictionary()

_WIDTH, _MOST = 1_500, 1_000
"""Characters of a line and lines in what one file's gates are refused with."""


def marked(report: pytest.CollectReport, mark: str) -> list[pytest.Item]:
    """The tests with this marker that were collected without an error, or refused here for another of their gates."""
    items = report.result if report.passed else _REFUSED.get(report)
    return [item for item in items or () if isinstance(item, pytest.Item) and item.get_closest_marker(mark)]


def refuse(report: pytest.CollectReport, problems: Iterable[str]) -> None:
    """Turn problems, if there are any, into the error of collecting these tests, beside those of other gates."""
    if said := "\n".join(problems):
        from ..core.untrusted import printable_lines

        said = printable_lines(said, _WIDTH, _MOST)
        before = f"{report.longrepr}\n" if report in _REFUSED else ""
        _REFUSED.setdefault(report, report.result or [])
        report.outcome = "failed"
        report.longrepr = before + said
        report.result = []
