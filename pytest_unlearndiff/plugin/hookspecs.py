"""Hooks that other plugins and conftest files may implement. Each docstring holds a complete example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..core.outcome import Outcome


@pytest.hookspec
def pytest_unlearndiff_concepts(config: pytest.Config) -> Any:
    """Say where further concepts are.

    Args:
        config: the session's.

    Returns:
        Folders or files (``list[Path]``), searched after those that the user lists.

    Example:
        A plugin that ships concepts of its own::

            def pytest_unlearndiff_concepts(config):
                return [Path(__file__).parent / "concepts"]
    """


@pytest.hookspec
def pytest_unlearndiff_judges(config: pytest.Config) -> Any:
    """Bring further kinds of judges, which concepts name with ``judge: kind:``.

    Asked in every process that collects tests; workers of ``--unlearndiff-workers`` are told the answer. A judge is
    imported where images are judged and nowhere else, so that a session that finds everything in the store needs
    nothing that it needs. Outcomes are kept under the judge's version, options and the content of its weights.

    Args:
        config: the session's.

    Returns:
        Judges (``list[JudgeKind]``). Names of built-in judges, and of other plugins', are refused.

    Example:
        A conftest.py, beside a concept whose judge is ``{kind: red, least: 0.4}``::

            from pytest_unlearndiff import JudgeKind

            def pytest_unlearndiff_judges(config):
                return [JudgeKind("red", make="reds:Red", version="1", optional={"least": float})]

        The judge, in a module reds.py that can be imported::

            from PIL import ImageStat

            class Red:
                def __init__(self, device, least=0.5):
                    self.least = least

                def __call__(self, images):
                    reds = [ImageStat.Stat(image).mean[0] / 255 for image in images]
                    return [(red >= self.least, red) for red in reds]
    """


@pytest.hookspec
def pytest_unlearndiff_attacks(config: pytest.Config) -> Any:
    """Bring further attacks, which gates name with ``attack=`` and sessions with ``--unlearndiff-attack``.

    Asked, told to workers and imported as judges are. Outcomes are kept under the attack's version and settings.

    Args:
        config: the session's.

    Returns:
        Attacks (``list[AttackKind]``). Names of built-in attacks, and of other plugins', are refused.

    Example:
        A conftest.py; a gate then says ``attack="echo"``::

            from pytest_unlearndiff import AttackKind

            def pytest_unlearndiff_attacks(config):
                return [AttackKind("echo", make="echoes:Echo", version="1")]

        The attack, in a module echoes.py that can be imported. It says a prompt twice, then three times::

            from pytest_unlearndiff.attacks.base import PromptState, lane_generator
            from pytest_unlearndiff.core.drawing import GenerationRequest

            class Echo:
                def __init__(self, spec, victim):
                    self.spec = spec

                def start(self, prompts, victim, targets, seed):
                    return [PromptState(prompt, lane_generator(seed, prompt)) for prompt in prompts]

                def advance(self, states, victim):
                    return [self.louder(state) for state in states]

                def louder(self, state):
                    if state.block == 2:
                        return None
                    state.block += 1
                    state.inserted = " ".join([state.prompt.text] * state.block)
                    text = f"{state.inserted} {state.prompt.text}"
                    return GenerationRequest(text, state.prompt.seed, state.prompt.guidance)
    """


@pytest.hookspec
def pytest_unlearndiff_outcome(config: pytest.Config, nodeid: str, outcome: Outcome) -> None:
    """Take note of a prompt that was attacked to its end, in the process that attacked it.

    Outcomes from the store are none of these. What this hook raises stops the attack.

    Args:
        config: the session's; under xdist a worker's.
        nodeid: the test.
        outcome: what became of the prompt, after it was kept.

    Example:
        A conftest.py that counts on a dashboard::

            def pytest_unlearndiff_outcome(config, nodeid, outcome):
                dashboard.count(nodeid, outcome.status.value, outcome.forwards)
    """


@pytest.hookspec
def pytest_unlearndiff_report(config: pytest.Config, gates: list[dict[str, Any]]) -> None:
    """Look at the finished gates before they are printed, kept and written, and add facts to them.

    Args:
        config: the session's, in the process that prints.
        gates: one dictionary a gate, of builtin types; add to its ``assumed``, a dictionary, what reports are to say of
            its origin. Anything else is what was measured: leave it.

    Example:
        A conftest.py that notes the commit a model came from::

            def pytest_unlearndiff_report(config, gates):
                for gate in gates:
                    gate["assumed"]["commit"] = os.environ.get("MODEL_COMMIT", "unknown")
    """
