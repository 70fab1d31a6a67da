"""Options: command line before environment before ini before default; a wrong value is traced to where it stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from worlds import MODEL, REQUIRE, World, section

from pytest_unlearndiff.plugin.options import OPTIONS
from pytest_unlearndiff.plugin.settings import Settings

# For each option: text on the command line, in the environment and in ini, then what each means, then the default.
PRECEDENCE: dict[str, tuple[tuple[str, str, str], tuple[Any, Any, Any, Any]]] = {
    "prompts": (("2", "3", "4"), (2, 3, 4, None)),
    "case_numbers": (("1,2", "3", "4"), ((1, 2), (3,), (4,), None)),
    "attack": (("random", "none", "seed-search"), ("random", "none", "seed-search", None)),
    "schedule": (("paper", "fast", "paper"), ("paper", "fast", "paper", None)),
    "loss": (("classifier", "denoise", "classifier"), ("classifier", "denoise", "classifier", None)),
    "seed": (("1", "0", "3"), (1, 0, 3, 0)),
    "batch_size": (("1", "2", "3"), (1, 2, 3, 8)),
    "device": (("cuda", "mps", "cuda:1"), ("cuda", "mps", "cuda:1", "auto")),
    "dtype": (("float16", "bfloat16", "float32"), ("float16", "bfloat16", "float32", "auto")),
    "cache": (("ro", "off", "require"), ("ro", "off", "require", "rw")),
    "progress": (("off", "lines", "off"), ("off", "lines", "off", "auto")),
}
CHOICE = {option.name: option for option in OPTIONS}


def settings(world: World, *arguments: str) -> Settings:
    return Settings.from_config(world.pytester.parseconfig(*arguments))


@pytest.mark.parametrize("name", PRECEDENCE)
def test_precedence(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (line, variable, ini), expected = PRECEDENCE[name]
    option, got = CHOICE[name], []
    world.ini(f"{option.ini} = {ini}")
    monkeypatch.setenv(option.variable, variable)
    got.append(getattr(settings(world, f"{option.flag}={line}"), name))
    got.append(getattr(settings(world), name))
    monkeypatch.delenv(option.variable)
    got.append(getattr(settings(world), name))
    world.ini()
    got.append(getattr(settings(world), name))
    assert tuple(got) == expected


def test_a_flag_has_the_same_precedence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings(world).require
    world.ini("unlearndiff_require = yes")
    assert settings(world).require
    monkeypatch.setenv("UNLEARNDIFF_REQUIRE", "0")
    assert not settings(world).require
    assert settings(world, "--unlearndiff-require").require


def test_precedence_reaches_the_gate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.5")
    world.ini("unlearndiff_prompts = 7", "unlearndiff_model = model.safetensors", "unlearndiff_base = base")
    monkeypatch.setenv("UNLEARNDIFF_CACHE", "require")
    result = world.bare("--unlearndiff-prompts=4")
    assert result.ret == 0
    assert [line for line in section(result) if " 0/4 = 0.0% " in line]


def test_paths_count_from_where_they_are_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ini file's from its folder, the command line's from where pytest was started."""
    world.ini("unlearndiff_model = model.safetensors")
    world.file("below/other.safetensors", "")
    monkeypatch.chdir(world.path / "below")
    assert settings(world).model == world.path / "model.safetensors"
    assert settings(world, "--unlearndiff-model=other.safetensors").model == world.path / "below/other.safetensors"
    monkeypatch.setenv("UNLEARNDIFF_MODEL", "other.safetensors")
    assert settings(world).model == world.path / "below/other.safetensors"


def test_the_store_is_in_rootdir_unless_said_otherwise(world: World) -> None:
    assert settings(world).cache_dir == world.path / ".unlearndiff"
    assert settings(world, "--unlearndiff-cache-dir=kept").cache_dir == world.path / "kept"


def test_several_places_of_concepts(world: World) -> None:
    given = settings(world, f"--unlearndiff-concepts=base{os.pathsep}judge")
    assert given.concepts == (world.path / "base", world.path / "judge")


def test_a_colon_in_a_model_path_is_part_of_it(world: World) -> None:
    name = "run 12:30.safetensors"
    world.file(name, "")
    assert settings(world, f"--unlearndiff-model={name}").model == world.path / name


@pytest.mark.parametrize("origin", ["line", "environment", "ini"])
@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("batch_size", "0", "a whole number of at least 1"),
        ("prompts", "-3", "a whole number of at least 1"),
        ("seed", "x", "a whole number of at least 0"),
        ("case_numbers", "1;2", "case numbers with commas"),
        ("cache", "on", "one of rw, ro, refresh, off, require"),
        ("device", "nonsense", "auto, cpu, cuda, cuda:N or mps"),
        ("device", "gpu", "auto, cpu, cuda, cuda:N or mps; did you mean 'cuda'?"),
        ("device", "cuda0", "auto, cpu, cuda, cuda:N or mps; did you mean 'cuda:0'?"),
        ("dtype", "int8", "one of auto, float32, tf32, float16, bfloat16"),
        ("progress", "dots", "one of auto, lines, off"),
        ("attack", "fgsm", "one of unlearndiff, p4d, ring-a-bell, random, seed-search, transfer, none"),
        ("schedule", "slow", "one of paper, paper+repeated-noise, fast"),
        ("loss", "hinge", "one of denoise, classifier"),
        ("concept", "church,,fish", "names with commas, such as church,fish"),
        ("model", "nowhere.pt", "there is nothing at"),
        ("base", "nowhere", "there is nothing at"),
    ],
)
def test_a_wrong_value_names_its_origin_and_the_allowed_form(
    world: World, monkeypatch: pytest.MonkeyPatch, origin: str, name: str, text: str, form: str
) -> None:
    option, arguments = CHOICE[name], ()
    if origin == "line":
        named, arguments = option.flag, (f"{option.flag}={text}",)
    elif origin == "environment":
        named = option.variable
        monkeypatch.setenv(named, text)
    else:
        named = option.ini
        world.ini(f"{named} = {text}")
    with pytest.raises(pytest.UsageError) as caught:
        settings(world, *arguments)
    assert named in str(caught.value)
    assert text in str(caught.value)
    assert form in str(caught.value)


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="one option of several types is new in pytest 9.2")
@pytest.mark.parametrize(
    ("line", "name", "value"), [("batch_size = 4", "batch_size", 4), ("require = true", "require", True)]
)
def test_typed_toml_values_are_understood(world: World, line: str, name: str, value: object) -> None:
    (world.path / "pytest.ini").unlink()
    world.file("pyproject.toml", f"[tool.pytest]\nunlearndiff_{line}\n")
    assert getattr(settings(world), name) == value


def test_help_lists_every_option_in_one_group(world: World) -> None:
    result = world.bare("--help")
    assert result.ret == 0
    lines = result.outlines
    start = lines.index("unlearned diffusion models under adversarial prompts:")
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    group = "\n".join(lines[start:end])
    everything = "\n".join(lines)
    for option in OPTIONS:
        assert f"  {option.flag}" in group
        assert everything.count(f"  {option.flag}=") + everything.count(f"  {option.flag}\n") <= 1
        assert f"  {option.ini} " in everything


def test_markers_shows_the_marker(world: World) -> None:
    result = world.bare("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.unlearndiff(concept, [*], max_asr=None, *"])


def test_a_session_of_only_some_cases(world: World) -> None:
    world.know("brrrrrrrrr")
    world.gate("max_asr=0.5")
    result = world.bare(*MODEL, REQUIRE, "--unlearndiff-case-numbers=100,104")
    assert [line for line in section(result) if " 1/2 = 50.0% " in line]


def test_a_store_somewhere_else(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 1
    Path(world.path / ".unlearndiff").rename(world.path / "elsewhere")
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 0


def test_guidance_is_part_of_the_key_and_loading_options_are_not(world: World) -> None:
    world.concept()
    plain = world.campaign("church")[0].key.digest
    changing = (
        "--unlearndiff-sld=medium:church",
        "--unlearndiff-negative-prompt=church",
        "--unlearndiff-safety-checker",
    )
    for arguments in ((option,) for option in changing):
        assert world.campaign("church", *arguments)[0].key.digest != plain
    for arguments in (("--unlearndiff-partial",), ("--unlearndiff-trust-pickle",), ("--unlearndiff-sld-warmup=steps",)):
        assert world.campaign("church", *arguments)[0].key.digest == plain


def test_the_type_of_the_weights_is_part_of_the_key_and_devices_are_not(world: World) -> None:
    world.concept()

    def digest(*options: str) -> str:
        return str(world.campaign("church", *(f"--unlearndiff-{option}" for option in options))[0].key.digest)

    assert digest() == digest("device=cpu") == digest("device=cuda") == digest("dtype=tf32") == digest("compile")
    assert digest() == digest("device=auto") == digest("device=mps") == digest("device=auto", "dtype=float32")
    assert len({digest(f"dtype={name}") for name in ("float32", "float16", "bfloat16")}) == 3


def test_a_flag_is_replayed_as_a_flag() -> None:
    assert CHOICE["partial"].written("yes") == "--unlearndiff-partial"
    assert CHOICE["partial"].written("no") == ""
    assert CHOICE["sld"].written("max:x") == "--unlearndiff-sld=max:x"
