"""What a cluster that lets nobody in is told apart by, and how long it is asked."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest

from pytest_unlearndiff.core.errors import AttackUnavailable
from pytest_unlearndiff.workers.connection import connect, retry_connect, single_attempt

WAIT = "RAY_gcs_server_port_wait_time_s"


def test_a_cluster_that_is_silent_may_miss_a_token() -> None:
    def start() -> None:
        raise ConnectionError("ray client connection timeout")

    with pytest.raises(
        AttackUnavailable, match=r"^--unlearndiff-workers=ray://head:10001: .* timeout\. .*RAY_AUTH_TOKEN$"
    ):
        connect("ray://head:10001", start)
    with pytest.raises(AttackUnavailable, match=r"timeout$"):
        connect("ray", start)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_cluster_that_ends_a_connection_is_asked_again(failures: int) -> None:
    answers = iter([ConnectionAbortedError("Starting Ray client server failed")] * failures)
    called = []

    def start() -> None:
        called.append(True)
        for error in answers:
            raise error

    retry_connect(start, wait=0)
    assert len(called) == failures + 1


def test_a_cluster_whose_processes_die_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def start() -> None:
        raise ConnectionAbortedError("See ray_client_server_23000.err")

    with pytest.raises(
        AttackUnavailable, match=r"_23000\.err\. Where that log is empty, .* GRPC_ENABLE_FORK_SUPPORT=0$"
    ):
        connect("ray://head:10001", start)


@pytest.mark.parametrize(("error", "calls"), [(ConnectionAbortedError("ended"), 3), (ConnectionError("silent"), 1)])
def test_a_cluster_is_not_asked_for_ever(error: ConnectionError, calls: int) -> None:
    called = []

    def start() -> None:
        called.append(True)
        raise error

    with pytest.raises(type(error)):
        retry_connect(start, wait=0)
    assert len(called) == calls


def test_a_wait_that_somebody_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "9")
    with single_attempt():
        assert os.environ[WAIT] == "9"
    assert os.environ[WAIT] == "9"


@pytest.mark.parametrize(("given", "meanwhile"), [(None, "1"), ("9", "9")])
def test_no_ray_that_is_started_later_is_hurried(
    monkeypatch: pytest.MonkeyPatch, given: str | None, meanwhile: str
) -> None:
    monkeypatch.delenv(WAIT, raising=False)
    if given is not None:
        monkeypatch.setenv(WAIT, given)
    with suppress(ConnectionError), single_attempt():
        assert os.environ[WAIT] == meanwhile
        raise ConnectionError
    assert os.environ.get(WAIT) == given
