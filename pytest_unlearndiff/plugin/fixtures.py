"""Which ``unlearned_pipe`` fixture a test sees, and what is said where there is no model."""

from __future__ import annotations

import pytest

NO_MODEL = "no model under test: add --unlearndiff-model=PATH (and --unlearndiff-base=PATH for a bare checkpoint)"

_OWN = f"{__package__}.hooks"


def overridden(session: pytest.Session, node: pytest.Item) -> bool:
    """Whether a test sees another ``unlearned_pipe`` fixture than the plugin's own."""
    manager = session._fixturemanager  # pytest has no public way to ask which definition a test sees
    definitions = manager.getfixturedefs("unlearned_pipe", node) or ()
    return bool(definitions) and definitions[-1].func.__module__ != _OWN
