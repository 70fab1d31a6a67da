"""The registry of all contracts: the built-in rows and those of ``examples/plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples import WITH_EXAMPLES
from pytest_unlearndiff.core.registry import registry, set_registry


@pytest.fixture(autouse=True, scope="package")
def _with_examples() -> Iterator[None]:
    before = registry()
    set_registry(WITH_EXAMPLES)
    yield
    set_registry(before)
