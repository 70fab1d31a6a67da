"""Does an unlearned diffusion model still draw the concept? UnlearnDiffAtk as pytest gates.

Public names are loaded when they are first used, so that importing this package, which every pytest start does, costs
next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.concept import Concept as Concept
    from .core.concept import Prompt as Prompt
    from .core.errors import ASRExceeded as ASRExceeded
    from .core.errors import AttackIncomplete as AttackIncomplete
    from .core.errors import QualityLost as QualityLost
    from .core.errors import RecoveryExceeded as RecoveryExceeded
    from .core.errors import RetentionLost as RetentionLost
    from .core.errors import UnlearnDiffError as UnlearnDiffError
    from .core.gate import Gate as Gate
    from .core.gate import Verdict as Verdict
    from .core.info import AttackInfo as AttackInfo
    from .core.info import JudgeInfo as JudgeInfo
    from .core.info import Threat as Threat
    from .core.model_info import DefenseInfo as DefenseInfo
    from .core.model_info import FamilyInfo as FamilyInfo
    from .core.model_info import FormatInfo as FormatInfo
    from .core.model_options import VersionedPipeline as VersionedPipeline
    from .core.outcome import Outcome as Outcome
    from .core.outcome import Status as Status
    from .core.quality import QualityResult as QualityResult
    from .core.rate import Rate as Rate
    from .core.registry import ReportInfo as ReportInfo
    from .core.result import AttackResult as AttackResult
    from .core.result import Retention as Retention

__version__ = "0.1.0"

_HOMES = {
    "ASRExceeded": "core.errors",
    "AttackIncomplete": "core.errors",
    "AttackInfo": "core.info",
    "AttackResult": "core.result",
    "Concept": "core.concept",
    "DefenseInfo": "core.model_info",
    "FamilyInfo": "core.model_info",
    "FormatInfo": "core.model_info",
    "Gate": "core.gate",
    "JudgeInfo": "core.info",
    "Outcome": "core.outcome",
    "Prompt": "core.concept",
    "QualityLost": "core.errors",
    "QualityResult": "core.quality",
    "Rate": "core.rate",
    "RecoveryExceeded": "core.errors",
    "ReportInfo": "core.registry",
    "Retention": "core.result",
    "RetentionLost": "core.errors",
    "Status": "core.outcome",
    "Threat": "core.info",
    "UnlearnDiffError": "core.errors",
    "Verdict": "core.gate",
    "VersionedPipeline": "core.model_options",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604  # every name is a string


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
