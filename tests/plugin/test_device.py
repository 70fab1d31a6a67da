"""Where models run is checked before anything is loaded, and said in the header and in every report."""

from __future__ import annotations

import pytest
from worlds import MODEL, REQUIRE, World, section

from pytest_unlearndiff.core import device

CUDA = "--unlearndiff-device=cuda"
NO_TORCH = "\n\ndef pytest_unconfigure():\n    import sys\n    assert 'torch' not in sys.modules\n"


def fake(world: World, gpus: int | None) -> None:
    """Give the machine so many GPUs; None where only torch can tell."""
    world.file("conftest.py", f"from pytest_unlearndiff.core import device\n\ndevice.gpus_foreseen = lambda: {gpus}\n")


@pytest.fixture(autouse=True)
def _restored_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what ``fake`` does in this process."""
    monkeypatch.setattr(device, "gpus_foreseen", device.gpus_foreseen)


@pytest.fixture
def known(world: World) -> World:
    world.know("r" * 10)
    world.gate("max_asr='50%'")
    return world


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cuda", "--unlearndiff-device=cuda: there is no CUDA device here, and this torch is built without CUDA"),
        ("mps", "--unlearndiff-device=mps: mps does not work here"),
    ],
)
def test_missing_device_is_a_usage_error_at_start(known: World, name: str, reason: str) -> None:
    known.file("conftest.py", NO_TORCH)
    result = known.separate(*MODEL, f"--unlearndiff-device={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert reason in result.stderr.str()
    assert "AssertionError" not in result.stderr.str()
    assert "collected" not in result.stdout.str()


def test_index_beyond_the_gpus(known: World) -> None:
    fake(known, 2)
    result = known.bare(*MODEL, "--unlearndiff-device=cuda:2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    reason = "cuda:2 is not here: the CUDA devices here are cuda:0 to cuda:1: give one that is, or auto"
    assert reason in result.stderr.str()
    known.bare(*MODEL, "--unlearndiff-device=cuda:1").assert_outcomes(passed=1)


def test_torch_is_asked_where_only_it_can_tell(known: World) -> None:
    fake(known, None)
    result = known.bare(*MODEL, CUDA)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--unlearndiff-device=cuda: there is no CUDA device here" in result.stderr.str()


@pytest.mark.parametrize("option", [REQUIRE, "--unlearndiff-plan", "--unlearndiff-workers=2"])
def test_session_that_attacks_nothing_here_needs_no_device(known: World, option: str) -> None:
    """A store that a GPU filled is read where there is none; workers may have what this machine has not."""
    assert known.ask(CUDA, option).ret == 0


@pytest.mark.parametrize(
    ("gpus", "arguments", "header"),
    [
        (0, MODEL, "auto: cpu; precision float32; batch size 8"),
        (1, MODEL, "auto: cuda; precision tf32; batch size 8"),
        (
            None,
            (*MODEL, "--unlearndiff-batch-size=auto"),
            "auto: cuda, mps or cpu, as torch finds when models are loaded; precision auto; batch size as many as "
            "memory has room for",
        ),
        (1, (*MODEL, CUDA), "cuda; precision tf32; batch size 8"),
        (
            1,
            (*MODEL, "--unlearndiff-device=cpu"),
            "cpu; precision float32; batch size 8; a GPU is here and not used: give --unlearndiff-device=auto",
        ),
        (
            0,
            (*MODEL, "--unlearndiff-workers=1"),
            "the GPUs of workers, or their CPUs where they have none; precision auto; batch size 8",
        ),
    ],
)
def test_header(known: World, gpus: int | None, arguments: tuple[str, ...], header: str) -> None:
    fake(known, gpus)
    result = known.bare(*arguments)
    result.assert_outcomes(passed=1)
    assert f"unlearndiff: device {header}" in result.outlines


@pytest.mark.parametrize(("gpus", "slow"), [(0, True), (1, False)])
def test_header_warns_of_half_precision_on_a_cpu(known: World, gpus: int, slow: bool) -> None:
    fake(known, gpus)
    result = known.bare(*MODEL, "--unlearndiff-dtype=float16", "--collect-only")
    assert ("; float16 takes some ten times as long as float32 on a CPU" in result.stdout.str()) == slow


def test_model_in_an_ini_file(world: World) -> None:
    """The device is told once there are gates."""
    world.concept()
    world.gate("max_asr='50%'")
    world.ini("unlearndiff_model = model.safetensors")
    (line,) = [line for line in world.bare().outlines if "device" in line]
    assert line == "unlearndiff: device auto: cpu; precision float32; batch size 8"
    (world.path / "test_gate.py").unlink()
    world.tests("def test_other(): pass")
    assert "device" not in world.bare().stdout.str()


def test_device_and_type_are_in_every_report(world: World) -> None:
    world.concept(count=10)
    world.scripted("r" * 10)
    # As loading says it, which is scripted here.
    world.conftest("ScriptedEngine.described = lambda self, source: {'device': source.device, 'dtype': source.dtype}")
    world.gate("max_asr='10%', exhaustive=True")
    world.retain("'church'")
    kinds = "--unlearndiff-report=json:report.json,html:r.html,md:r.md"
    result = world.attack("-v", kinds, "--junitxml=r.xml")
    assert "  device: cpu" in section(result)
    assert "  dtype: float32" in section(result)
    assert [gate["run"]["device"] for gate in world.gates()] == ["cpu", "cpu"]
    assert "Measured on cpu" in world.read("r.md")
    assert "on cpu" in world.read("r.html")
    assert 'name="unlearndiff_device" value="cpu"' in world.read("r.xml")
    again = world.attack("-v")
    assert "  device: cpu" in section(again), "where it was measured, when the store answers"
