"""Gates that cannot be meant are a collection error, which stays clean under xdist."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def marked(report: pytest.CollectReport, mark: str) -> list[pytest.Item]:
    """The tests with this marker that were collected without an error."""
    items = report.result if report.passed else ()
    return [item for item in items or () if isinstance(item, pytest.Item) and item.get_closest_marker(mark)]


def refuse(report: pytest.CollectReport, problems: Iterable[str]) -> None:
    """Turn problems, if there are any, into the error of collecting these tests."""
    if said := "\n".join(problems):
        report.outcome = "failed"
        report.longrepr = said
        report.result = []
