"""Judges and attacks that plugins add: what is refused, what enters the key, and what other processes learn."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import prompts

from pytest_unlearndiff.core.attack_config import ATTACKS, AttackConfig, attacks
from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, GateError, JudgeError
from pytest_unlearndiff.core.judge_options import KINDS, kinds, weights_of, with_weights
from pytest_unlearndiff.core.registry import (
    EMPTY_REGISTRY,
    AttackKind,
    JudgeKind,
    PluginRegistry,
    plugged,
    set_registry,
)
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.sources.judge_files import judge_weights
from pytest_unlearndiff.store.hashing import Fingerprints
from pytest_unlearndiff.workers.worker import JobSpec

RED = JudgeKind("red", make="reds:Red", version="1", required={"weights": str}, optional={"least": float})
ECHO = AttackKind("echo", make="echoes:Echo", version="1")


def both(judge: JudgeKind = RED, attack: AttackKind = ECHO) -> PluginRegistry:
    return PluginRegistry.of([judge, attack], KINDS, ATTACKS)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = plugged()
    yield
    set_registry(before)


def campaign(judge: JudgeConfig | None = None, attack: str = "echo", **attributes: Any) -> Campaign:
    concept = Concept("church", prompts(2), judge or JudgeConfig("red", {"weights": "w"}))
    return Campaign(concept, AttackConfig(attack, **attributes), Fingerprint("v", "t"), "j")


@pytest.mark.parametrize("name", ["", "Red", "red thing", "red@2", "-red", "red-", 3])
@pytest.mark.parametrize("kind", [JudgeKind, AttackKind])
def test_a_name_is_of_words_and_hyphens(kind: Any, name: Any) -> None:
    with pytest.raises(GateError, match="lower-case letters, digits and hyphens"):
        kind(name, make="a:b", version="1")


@pytest.mark.parametrize("make", ["", "a.b", "a:", ":b", "a b:c", print])
def test_what_makes_it_is_spelt_not_imported(make: Any) -> None:
    with pytest.raises(GateError, match=r"must be package\.module:callable, as text"):
        JudgeKind("red", make=make, version="1")


@pytest.mark.parametrize("version", ["", " ", 1, None])
def test_a_version_is_a_text(version: Any) -> None:
    with pytest.raises(GateError, match="must be a text, such as '1'"):
        AttackKind("echo", make="a:b", version=version)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"required": {"device": str}}, "no option can be called 'device'"),
        ({"optional": {"kind": str}}, "no option can be called 'kind'"),
        ({"optional": {"a-b": str}}, "no option can be called 'a-b'"),
        ({"optional": {"a": Path}}, "must be one of str, int, float, bool, list, dict"),
        ({"weights": ("model",)}, "weights names 'model', which is no option of type str"),
        ({"weights": ("model",), "optional": {"model": int}}, "weights names 'model'"),
    ],
)
def test_options_are_names_with_builtin_types(options: dict[str, Any], said: str) -> None:
    with pytest.raises(GateError, match=said):
        JudgeKind("red", make="a:b", version="1", **options)


@pytest.mark.parametrize("name", [*KINDS, *ATTACKS])
def test_built_in_names_are_taken(name: str) -> None:
    kind = JudgeKind if name in KINDS else AttackKind
    with pytest.raises(GateError, match="as a built-in one: give it another name"):
        PluginRegistry.of([kind(name, make="a:b", version="1")], KINDS, ATTACKS)


def test_one_name_is_one_plugins_own() -> None:
    assert PluginRegistry.of([RED, RED, ECHO], KINDS, ATTACKS) == both(), "the same one told twice is no clash"
    with pytest.raises(GateError, match="two plugins name their judge 'red'"):
        PluginRegistry.of([RED, JudgeKind("red", make="others:Red", version="1")], KINDS, ATTACKS)
    with pytest.raises(GateError, match="neither a JudgeKind nor an AttackKind"):
        PluginRegistry.of(["red"], KINDS, ATTACKS)


def test_a_judge_and_an_attack_may_share_a_name() -> None:
    found = PluginRegistry.of([RED, AttackKind("red", make="a:b", version="1")], KINDS, ATTACKS)
    assert (*found.judges, *found.attacks) == ("red", "red")


def test_they_are_known_while_they_are_plugged_in() -> None:
    with pytest.raises(GateError, match="attack='echo' is not known"):
        AttackConfig("echo")
    before = plugged()
    set_registry(both())
    assert AttackConfig("echo").title == "echo/fast"
    assert {"red"} == set(kinds()) - set(KINDS)
    assert attacks() == (*ATTACKS, "echo")
    set_registry(before)
    assert "red" not in kinds()
    assert attacks() == ATTACKS


def test_versions_and_settings_enter_the_key() -> None:
    set_registry(both())
    one = campaign()
    assert one.key.judge["kind"] == "red@1"
    assert one.key.params["version"] == "1"
    for other in (
        both(judge=JudgeKind("red", RED.make, "2", RED.required, RED.optional)),
        both(attack=AttackKind("echo", ECHO.make, "2")),
    ):
        before = one.key.digest
        set_registry(other)
        assert one.key.digest != before
        set_registry(both())
    assert campaign(slots=4).key.digest != one.key.digest
    assert campaign(schedule="paper").key.digest != one.key.digest


def test_a_part_of_a_combined_judge_counts_with_its_version() -> None:
    set_registry(both())
    combined = JudgeConfig("any-of", {"judges": [{"kind": "red", "weights": "w"}]})
    assert campaign(combined).key.judge["options"] == {"judges": [{"kind": "red@1", "weights": "w"}]}


@pytest.mark.parametrize("needed", [True, False])
def test_the_base_counts_where_an_attack_asks_for_target_images(needed: bool) -> None:
    set_registry(both(attack=AttackKind("echo", "echoes:Echo", "1", needs_targets=needed)))
    assert campaign().key.target == ("t" if needed else "")
    assert not AttackConfig("echo").needs_base


def test_an_attack_may_ask_for_the_base_itself() -> None:
    set_registry(both(attack=AttackKind("echo", "echoes:Echo", "1", needs_base=True)))
    assert AttackConfig("echo").needs_base
    assert AttackConfig("echo").needs_target


def concept_file(folder: Path, judge: str) -> Path:
    (folder / "p.csv").write_text("prompt\na\n")
    path = folder / "c.yaml"
    path.write_text(f"prompts: p.csv\njudge: {judge}\n")
    return path


WITH_WEIGHTS = JudgeKind("red", "reds:Red", "1", {"model": str}, {"least": float, "many": bool, "n": int}, ("model",))


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("{kind: red}", "judge red needs model"),
        ("{kind: red, model: w, most: 1}", "judge red has no option 'most'"),
        ("{kind: red, model: w, least: high}", "least must be a number"),
        ("{kind: red, model: w, least: true}", "least must be a number"),
        ("{kind: red, model: w, many: 1}", "many must be true or false"),
        ("{kind: red, model: w, n: 1.5}", "n must be a whole number"),
        ("{kind: red, model: nowhere}", "there is nothing at"),
        ("{kind: reed, model: w}", "did you mean 'red'"),
        ("{kind: any-of, judges: [{kind: red}]}", "judge red needs model"),
    ],
)
def test_a_concepts_mistakes_are_told_with_lines(tmp_path: Path, judge: str, said: str) -> None:
    set_registry(both(judge=WITH_WEIGHTS))
    (tmp_path / "w").write_text("weights")
    with pytest.raises(ConceptError, match=rf"c\.yaml:2: .*{said}"):
        read_concept(concept_file(tmp_path, judge))


def test_weights_are_found_beside_the_concept_and_count_by_content(tmp_path: Path) -> None:
    set_registry(both(judge=WITH_WEIGHTS))
    (tmp_path / "w").write_text("weights")
    judge = read_concept(concept_file(tmp_path, "{kind: red, model: w, least: 1, many: true, n: 2}")).judge
    assert judge.options == {"model": str(tmp_path / "w"), "least": 1, "many": True, "n": 2}
    before = judge_weights(judge, Fingerprints())
    (tmp_path / "w").write_text("other weights")
    assert judge_weights(judge, Fingerprints()) != before
    assert judge_weights(JudgeConfig("red", {}), Fingerprints()) == ""


def test_another_process_learns_of_them_from_the_order(tmp_path: Path) -> None:
    set_registry(both())
    order = JobSpec(campaign(), ModelSpec(tmp_path), 1, plugged=plugged())
    (tmp_path / "order").write_bytes(pickle.dumps(order))
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "from pytest_unlearndiff.workers.worker import Worker\n"
        "order = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    Worker().open(order)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"  # there is no such model
        "print(order.campaign.key.digest)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "order")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told[-1] == campaign().key.digest


def module(folder: Path, patch: pytest.MonkeyPatch, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("nowhere_at_all:Red", "No module named 'nowhere_at_all'; the module has to be importable"),
        ("some_reds:Green", "has no attribute 'Green'"),
        ("some_reds:number", "is a int, which cannot be called"),
        ("some_reds:nothing", "gave a NoneType, which cannot be called"),
    ],
)
def test_a_judge_that_cannot_be_made_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str, said: str
) -> None:
    from pytest_unlearndiff.judges import build_judge

    module(tmp_path, monkeypatch, "some_reds", "number = 1\ndef nothing(device): return None\n")
    set_registry(both(judge=JudgeKind("red", make, "1")))
    with pytest.raises(JudgeError, match=f"judge red: .*{said}"):
        build_judge(JudgeConfig("red", {}), "cpu")


def test_an_attack_that_cannot_be_imported_is_one_clear_error() -> None:
    from pytest_unlearndiff.attacks import build_attack

    set_registry(both(attack=AttackKind("echo", "nowhere_at_all:Echo", "1")))
    with pytest.raises(GateError, match="attack echo: nowhere_at_all:Echo: No module named"):
        build_attack(AttackConfig("echo"), None)  # type: ignore[arg-type]


def test_the_weights_of_a_plugged_judge_travel_to_workers() -> None:
    set_registry(both(judge=WITH_WEIGHTS))
    judge = JudgeConfig("red", {"model": "here", "least": 1})
    assert weights_of(judge) == ("here",)
    assert with_weights(judge, {"here": "there"}).options == {"model": "there", "least": 1}


def test_an_attack_of_a_plugin_that_is_not_there_is_no_attack_that_finds_nothing() -> None:
    """As in a process that was sent a specification and not the plugin: what is not attacked has not resisted."""
    from pytest_unlearndiff.attacks import build_attack

    set_registry(both())
    spec = AttackConfig("echo")
    set_registry(EMPTY_REGISTRY)
    with pytest.raises(GateError, match="there is no attack 'echo' in this process"):
        build_attack(spec, None)  # type: ignore[arg-type]
