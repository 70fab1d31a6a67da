"""Start Ray or find a cluster: what Ray does not say, does too long, or does to a process beside."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core.errors import AttackUnavailable, one_line

_TRIES = 3
"""How often a cluster is asked that answers, and then ends the connection."""


def connect(where: str, start: Callable[[], object]) -> None:
    """Start or find Ray, without what it warns of about itself.

    Args:
        where: as RayTeam's.
        start: does that.

    Raises:
        CannotAttack: that failed.
    """
    try:
        with _undisturbed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            retry_connect(start)
    except Exception as error:
        raise AttackUnavailable(
            f"--unlearndiff-workers={where}: Ray cannot be started or found: {type(error).__name__}: {one_line(error)}"
            f"{_mend(where, error)}"
        ) from None


def retry_connect(start: Callable[[], object], *, wait: float = 1) -> None:
    """Call ``start``, and again where the cluster answered but its process for this client did not come up.

    Args:
        start: joins the cluster.
        wait: before another call, in seconds.
    """
    # A server of many threads forks that process, which with some versions of gRPC dies of it every other time.
    for _ in range(_TRIES - 1):
        try:
            start()
        except ConnectionAbortedError:
            time.sleep(wait)
        else:
            return
    start()


def _mend(where: str, error: Exception) -> str:
    """What Ray does not say of a cluster that does not let anybody in."""
    if not (where.startswith("ray://") and isinstance(error, ConnectionError)):
        return ""
    if isinstance(error, ConnectionAbortedError):
        return ". Where that log is empty, start the cluster's head with GRPC_ENABLE_FORK_SUPPORT=0"
    # Since 2.60 one asks for a token where its machine has one.
    return ". A cluster that asks for a token is silent without it: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"


@contextmanager
def single_attempt() -> Iterator[None]:
    """Have Ray knock once, for half a minute, at a cluster that is gone or wants a token; else it does so 20 times."""
    name = "RAY_gcs_server_port_wait_time_s"
    given = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        # A Ray that is started later in this process or below it waits so long for its own head.
        if given is None:
            del os.environ[name]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put back the handler of SIGTERM, which Ray replaces by one that ends the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
