"""Where models run is checked before anything is loaded, and said in the header and in every report."""

from __future__ import annotations

import json

import pytest
from worlds import MODEL, REQUIRE, World, section

CUDA = "--unlearndiff-device=cuda"
NO_TORCH = "\n\ndef pytest_unconfigure():\n    import sys\n    assert 'torch' not in sys.modules\n"


def fake(world: World, gpus: int | None, at: str = "conftest.py") -> None:
    """The machine has so many GPUs; None where only torch can tell."""
    world.file(at, f"from pytest_unlearndiff.core import device\n\ndevice.gpus_foreseen = lambda: {gpus}\n")


@pytest.fixture
def known(world: World) -> World:
    world.know("r" * 10)
    world.gate("max_asr='50%'")
    return world


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuda", "--unlearndiff-device=cuda: there is no CUDA device here, and this torch is built without CUDA"),
        ("cuda:7", "--unlearndiff-device=cuda:7: there is no CUDA device here"),
        ("mps", "--unlearndiff-device=mps: mps does not work here"),
        ("nonsense", "--unlearndiff-device: 'nonsense' must be auto, cpu, cuda, cuda:N or mps"),
        ("gpu", "did you mean 'cuda'?"),
    ],
)
def test_what_is_not_here_is_a_usage_error_at_start(known: World, name: str, said: str) -> None:
    known.file("conftest.py", NO_TORCH)
    result = known.separate(*MODEL, f"--unlearndiff-device={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "AssertionError" not in result.stderr.str()
    assert "collected" not in result.stdout.str()


def test_an_index_beyond_the_gpus_is_refused(known: World) -> None:
    fake(known, 2)
    result = known.bare(*MODEL, "--unlearndiff-device=cuda:2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "cuda:2 is not here: the CUDA devices here are cuda:0 to cuda:1: give one that is, or auto"
        in result.stderr.str()
    )
    known.bare(*MODEL, "--unlearndiff-device=cuda:1").assert_outcomes(passed=1)


def test_where_only_torch_can_tell_it_is_asked(known: World) -> None:
    fake(known, None)
    result = known.bare(*MODEL, CUDA)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--unlearndiff-device=cuda: there is no CUDA device here" in result.stderr.str()


@pytest.mark.parametrize("why", [REQUIRE, "--unlearndiff-plan", "--unlearndiff-workers=2"])
def test_who_attacks_nothing_here_needs_no_device(known: World, why: str) -> None:
    """A store that a GPU filled is read where there is none; workers may have what this machine has not."""
    assert known.ask(CUDA, why).ret == 0


@pytest.mark.parametrize(
    ("gpus", "arguments", "said"),
    [
        (0, MODEL, "unlearndiff: device auto: cpu"),
        (1, MODEL, "unlearndiff: device auto: cuda"),
        (None, MODEL, "unlearndiff: device auto: cuda, mps or cpu, as torch finds when models are loaded"),
        (1, (*MODEL, CUDA), "unlearndiff: device cuda"),
        (0, (*MODEL, "--unlearndiff-workers=1"), "unlearndiff: device the GPUs of workers, or their CPUs"),
    ],
)
def test_the_header_says_it_without_torch(
    known: World, gpus: int | None, arguments: tuple[str, ...], said: str
) -> None:
    fake(known, gpus)
    with (known.path / "conftest.py").open("a") as file:
        file.write(NO_TORCH)
    result = known.bare(*arguments)
    result.assert_outcomes(passed=1)
    assert next(line for line in result.outlines if line.startswith("unlearndiff: device")).startswith(said)


def test_what_an_ini_file_says_is_told_once_gates_are_known(world: World) -> None:
    world.concept()
    world.gate("max_asr='50%'")
    world.ini("unlearndiff_model = model.safetensors")
    assert [line for line in world.bare().outlines if "device" in line] == ["unlearndiff: device auto: cpu"]
    (world.path / "test_gate.py").unlink()
    world.tests("def test_other(): pass")
    assert "device" not in world.bare().stdout.str()


def test_what_models_ran_on_is_in_every_report(world: World) -> None:
    world.concept(count=10)
    world.scripted("r" * 10)
    with (world.path / "conftest.py").open("a") as file:
        # As loading says it, which is scripted here.
        file.write("ScriptedEngine.described = lambda self, source: {'device': source.device, 'dtype': source.dtype}\n")
    world.tests(
        """
        @pytest.mark.unlearndiff("church", max_asr="10%", exhaustive=True)
        @pytest.mark.unlearndiff_retains("church")
        def test_gate(unlearndiff_attack, unlearndiff_retention):
            unlearndiff_attack()
            unlearndiff_retention()
        """
    )
    result = world.attack("-v", "--unlearndiff-report=json:r.json,html:r.html,md:r.md", "--junitxml=r.xml")
    assert "  device: cpu" in section(result)
    assert "  dtype: float32" in section(result)
    gates = json.loads((world.path / "r.json").read_text())["gates"]
    assert [gate["run"]["device"] for gate in gates] == ["cpu", "cpu"]
    assert "Measured on cpu" in (world.path / "r.md").read_text()
    assert "measured on cpu" in (world.path / "r.html").read_text()
    assert 'name="unlearndiff_device" value="cpu"' in (world.path / "r.xml").read_text()
    again = world.attack("-v")
    assert "  device: cpu" in section(again), "where it was measured, when the store answers"
