"""What a pytest-html report shows in a gate's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .gate_report import GateReport
from .terminal import summary_lines


def extras(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One extra a test, in the form that ``pytest_html.extras.html`` gives: builtin types, so that it travels.

    Args:
        records: the test's gates, as they travel.
    """
    lines = summary_lines([GateReport.from_wire(data) for data in records])
    text = escape("\n".join(line for line, _ in lines))
    content = f'<pre class="unlearndiff">{text}</pre>'
    return [{"name": None, "format_type": "html", "content": content, "mime_type": None, "extension": None}]
