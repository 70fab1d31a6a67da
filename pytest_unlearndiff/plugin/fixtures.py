"""The fixtures a test asks for. They are cheap handles: models are loaded by the call, and only on a miss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .session import state_of

if TYPE_CHECKING:
    from .attack import AttackFixture

NO_MODEL = "no model under test: add --unlearndiff-model=PATH (and --unlearndiff-base=PATH for a bare checkpoint)"


@pytest.fixture(scope="session")
def unlearned_pipe(pytestconfig: pytest.Config) -> Any:
    """The pipeline under test, loaded from --unlearndiff-model.

    Override it in a conftest to test any ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` of your own; its
    weights are then fingerprinted from memory. Where hooks or other code of yours act as it draws, return it as
    ``pytest_unlearndiff.VersionedPipeline(pipe, version)``, so that outcomes may be kept.
    """
    from .attack import session_source

    state = state_of(pytestconfig)
    if state.settings.model is None:
        pytest.skip(NO_MODEL)
    return state.parts.victim(state.placed(session_source(state.settings), for_good=True)).pipe


@pytest.fixture
def unlearndiff_attack(request: pytest.FixtureRequest) -> AttackFixture:
    """Attack the model under test: ``unlearndiff_attack("church", max_asr="10%")``.

    Called without arguments it runs the test's ``unlearndiff`` marker. Returns an ``AttackResult``; raises
    ``ASRExceeded`` where a limit is exceeded and ``AttackIncomplete`` where prompts are missing and the verdict is not
    decided without them.
    """
    from .attack import AttackFixture

    return AttackFixture(request)


def overridden(session: pytest.Session, node: pytest.Item) -> bool:
    """Whether a test sees another ``unlearned_pipe`` than the plugin's own."""
    manager = session._fixturemanager  # no public way to ask which definition a test sees
    definitions = manager.getfixturedefs("unlearned_pipe", node) or ()
    return bool(definitions) and definitions[-1].func.__module__ != __name__
