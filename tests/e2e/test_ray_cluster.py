"""A real Ray cluster that runs already: driven from a process outside it, as a laptop would, and from inside."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import SCRIPTED, Cluster
from tiny import EMOJI
from worlds import World, section

pytestmark = pytest.mark.slow

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cluster's workers find their script, and note what they do."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "sitecustomize.py").write_text(SCRIPTED)
    return folder


@pytest.fixture(scope="module")
def token() -> dict[str, str]:
    """What lets a process into the cluster."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def cluster(folder: Path, token: dict[str, str]) -> Iterator[Cluster]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    cluster = Cluster({**os.environ, **token, "PYTHONPATH": path, "BEGUN": str(folder / "begun")}, cpus=2)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch, token: dict[str, str]) -> World:
    """A gate of COUNT prompts, in a process that knows nothing of the cluster but its address and its token."""
    for name, value in token.items():
        monkeypatch.setenv(name, value)
    world.concept(count=COUNT)
    world.gate("max_asr='100%', exhaustive=True")
    return world


@pytest.mark.parametrize("way", ["client", "auto"])
def test_running_cluster(gate: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    where = cluster.client
    if way == "auto":
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        where = "ray"
    result = gate.attack(f"--unlearndiff-workers={where}")
    result.assert_outcomes(passed=1)
    assert f"{COUNT} attacked" in "".join(section(result))
    wanted = ["hit-without-attack" if seed % 5 == 1 else "resisted" for seed in range(COUNT)]
    assert sorted(outcome["status"] for outcome in gate.kept()) == sorted(wanted)


HIDE = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')
CAN_HIDE = shutil.which("unshare") is not None and subprocess.run([*HIDE, "/mnt", "true"], check=False).returncode == 0


@pytest.mark.skipif(not CAN_HIDE, reason="this machine lets nobody hide a folder from a process")
def test_machine_without_the_files(gate: World, token: dict[str, str]) -> None:
    """The emoji world's folder is empty for every process of the only node that has place for workers."""
    cluster = Cluster({**os.environ, **token}, cpus=0)
    try:
        cluster.join(2, before=[*HIDE, str(EMOJI)])
        gate.gate("max_asr='100%', exhaustive=True", concept="fish")
        model = EMOJI / "erased" / "uce-fish.safetensors"
        result = gate.bare(
            f"--unlearndiff-model={model}",
            f"--unlearndiff-base={EMOJI / 'model'}",
            f"--unlearndiff-concepts={EMOJI / 'concepts'}",
            "--unlearndiff-case-numbers=0,16",
            f"--unlearndiff-workers={cluster.client}",
        )
    finally:
        cluster.stop()
    result.assert_outcomes(failed=1)
    assert f"there is nothing at {model} on this machine: put it at a path" in result.stdout.str()
