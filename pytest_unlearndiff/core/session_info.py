"""Who ran a session, on which commit, and where its log is, as far as the environment and git know."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_COMMIT = ("GITHUB_SHA", "CI_COMMIT_SHA", "BUILD_SOURCEVERSION", "CIRCLE_SHA1", "BUILDKITE_COMMIT")
_USER = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_REQUESTEDFOR", "CIRCLE_USERNAME", "BUILDKITE_BUILD_CREATOR")
_LOG = ("CI_JOB_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL")
_SECONDS = 5


def author_info(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Collect ``commit``, ``user`` and ``log``; one that is not known is left out.

    Args:
        folder: a folder of the project, whose commit it is where no CI service names one.
        environment: variables of the process; those of CI services come first.
    """
    server, repository, run = (environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    github = f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
    facts = {
        "commit": _first(_COMMIT, environment) or git_commit(folder),
        "user": _first(_USER, environment) or _user(),
        "log": github or _first(_LOG, environment),
    }
    return {name: value for name, value in facts.items() if value}


def git_commit(folder: Path) -> str:
    """Return the commit that is checked out, with ``-dirty`` where tracked files differ; empty where git knows none."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        text = subprocess.run(  # noqa: S603 - no shell, and no argument from outside but the folder
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout.strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return text if re.fullmatch(r"[0-9a-f]{40,64}(-dirty)?", text) else ""


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    return next((value for name in names if (value := environment.get(name, "").strip())), "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the latter before Python 3.13
        return ""
