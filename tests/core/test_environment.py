"""What a result was computed on."""

from __future__ import annotations

from importlib.metadata import version

from pytest_unlearndiff.core.device import environment_info


def test_a_package_without_a_version_is_no_error() -> None:
    """As where somebody runs from a folder of sources."""
    found = environment_info("pytest", "no-such-package")["versions"]
    assert found == {"pytest": version("pytest"), "no-such-package": "not installed as a package"}
