"""The JUnit file of a session: what is known of a gate only once all tests have run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import pytest

# pytest has no public way to add to a test's properties after its teardown; the fixture record_xml_attribute asks the
# same object for the same thing.
from _pytest.junitxml import xml_key

from ..reports.failure_text import UNGATED
from ..reports.gate_report import GateReport
from ..reports.junit import RETENTION


class JUnitFile:
    """Adds to the tests of pytest's own JUnit file, where it writes one.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cases: list[tuple[str, Any]] = []

    def add(self, report: pytest.TestReport) -> None:
        """Take note of a test whose call has ended."""
        if (file := self._config.stash.get(xml_key, None)) is not None:
            self._cases.append((report.nodeid, file.node_reporter(report)))

    def complete(self, gates: Sequence[GateReport]) -> None:
        """Say of every gate whether the session gates what its model must keep, before the file is written."""
        ungated = {gate.nodeid for gate in gates if gate.retention_gated is False}
        for nodeid, case in self._cases:
            properties: ET.Element | None = case.to_xml().find("properties") if nodeid in ungated else None
            if properties is not None and properties.find(f"property[@name='{RETENTION}']") is None:
                ET.SubElement(properties, "property", name=RETENTION, value=UNGATED)
