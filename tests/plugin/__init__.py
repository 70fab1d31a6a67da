"""Each option and behaviour of the plugin as a user meets it, with verdicts from a store filled beforehand."""

from __future__ import annotations
