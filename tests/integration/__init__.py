"""Each option and behaviour as a user meets it, without a model: verdicts come from a store filled beforehand."""

from __future__ import annotations
