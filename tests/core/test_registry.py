"""Rows of the registry: refused where malformed, part of keys, and known to other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import prompts

from pytest_unlearndiff.core.attack_config import AttackConfig, attack_names
from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, GateError, JudgeError
from pytest_unlearndiff.core.info import AttackInfo, Info, JudgeInfo
from pytest_unlearndiff.core.judge_options import weights_of
from pytest_unlearndiff.core.registry import Registry, registry, set_registry
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.key import Fingerprints

RED = JudgeInfo("red", "reds:Red", "1", required={"weights": str}, optional={"least": float})
FILED = JudgeInfo("red", "reds:Red", "1", {"model": str}, {"least": float, "many": bool, "n": int}, ("model",))
ECHO = AttackInfo("echo", "echoes:Echo", "1")
BUILT_IN = Registry()


@pytest.fixture(autouse=True)
def _restore_registry() -> Iterator[None]:
    before = registry()
    yield
    set_registry(before)


def use(*rows: Info) -> None:
    set_registry(Registry(rows))


def campaign(judge: JudgeConfig | None = None, **settings: Any) -> Campaign:
    concept = Concept("church", prompts(2), judge or JudgeConfig("red", {"weights": "w"}))
    return Campaign(concept, AttackConfig("echo", **settings), Fingerprint("v", "t"), "j")


IMPLEMENTATIONS = [
    (("a", "a.b" + bad, "1"), "implementation=.* must be package.module:callable") for bad in ("", ":", ": b")
]
NAMES = [((bad, "a:b", "1"), "lower-case letters, digits and hyphens") for bad in ("", "Red", "r d", "r@2", "-r", 3)]
VERSIONS = [(("a", "a:b", bad), "must be a text, such as '1'") for bad in ("", " ", 1, None)]


@pytest.mark.parametrize("kind", [JudgeInfo, AttackInfo])
@pytest.mark.parametrize(
    ("attributes", "message"),
    [*IMPLEMENTATIONS, (("a", print, "1"), "must be package.module:callable, as text"), *NAMES, *VERSIONS],
)
def test_malformed_row(kind: Any, attributes: Any, message: str) -> None:
    with pytest.raises(GateError, match=message):
        kind(*attributes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"optional": {bad: str}}, f"no option can be called '{bad}'") for bad in ("kind", "a-b")],
        ({"required": {"device": str}}, "no option can be called 'device'"),
        ({"optional": {"a": Path}}, "must be one of str, int, float, bool, list, dict"),
        ({"files": ("model",)}, "files names 'model', which is no option of type str"),
        ({"files": ("model",), "optional": {"model": int}}, "files names 'model'"),
    ],
)
def test_malformed_judge_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GateError, match=message):
        JudgeInfo("red", "a:b", "1", **options)


def test_names_are_taken_once() -> None:
    for kind, names in ((JudgeInfo, BUILT_IN.judges), (AttackInfo, BUILT_IN.attacks)):
        for name in names:
            with pytest.raises(GateError, match="as a built-in one: give it another name"):
                Registry([kind(name, "a:b", "1")])
    assert Registry([RED, RED, ECHO]).added == (RED, ECHO)
    with pytest.raises(GateError, match="two plugins name their judge 'red'"):
        Registry([RED, JudgeInfo("red", "others:Red", "1")])
    with pytest.raises(GateError, match="which is none of AttackInfo, JudgeInfo"):
        Registry(["red"])
    assert Registry([RED, AttackInfo("red", "a:b", "1")]).attacks["red"].noun == "attack"


def test_rows_are_known_while_registered() -> None:
    with pytest.raises(GateError, match="attack='echo' is not known"):
        AttackConfig("echo")
    use(RED, ECHO)
    assert AttackConfig("echo").title == "echo"
    assert attack_names() == (*BUILT_IN.attacks, "echo")
    assert set(registry().judges) == {*BUILT_IN.judges, "red"}


def test_versions_settings_and_the_base_an_attack_needs_enter_the_key() -> None:
    use(RED, ECHO)
    one = campaign().key
    assert (one.judge["kind"], one.params["version"]) == ("red@1", "1")
    combined = JudgeConfig("any-of", {"judges": [{"kind": "red", "weights": "w"}]})
    assert campaign(combined).key.judge["options"] == {"judges": [{"kind": "red@1", "weights": "w"}]}
    assert campaign(slots=4).key.digest != one.digest
    for rows in ((JudgeInfo("red", "a:b", "2", RED.required), ECHO), (RED, AttackInfo("echo", "a:b", "2"))):
        use(*rows)
        assert campaign().key.digest != one.digest
    for needs, target in (({}, ""), ({"needs_targets": True}, "t"), ({"needs_base": True}, "t")):
        use(RED, AttackInfo("echo", "a:b", "1", **needs))
        assert campaign().key.target == target


def concept_file(folder: Path, judge: str) -> Path:
    (folder / "p.csv").write_text("prompt\na\n")
    (folder / "w").write_text("weights")
    path = folder / "c.yaml"
    path.write_text(f"prompts: p.csv\njudge: {judge}\n")
    return path


WRONG_OPTIONS = {
    "{kind: red}": "judge red needs model",
    "{kind: red, model: w, most: 1}": "judge red has no option 'most'",
    "{kind: red, model: w, least: high}": "least must be a number",
    "{kind: red, model: w, least: true}": "least must be a number",
    "{kind: red, model: w, many: 1}": "many must be true or false",
    "{kind: red, model: w, n: 1.5}": "n must be a whole number",
    "{kind: red, model: nowhere}": "there is nothing at",
    "{kind: reed, model: w}": "did you mean 'red'",
    "{kind: any-of, judges: [{kind: red}]}": "judge red needs model",
}


@pytest.mark.parametrize("judge", WRONG_OPTIONS)
def test_wrong_options_in_a_concept_file(tmp_path: Path, judge: str) -> None:
    use(FILED)
    with pytest.raises(ConceptError, match=rf"c\.yaml:2: .*{WRONG_OPTIONS[judge]}"):
        read_concept(concept_file(tmp_path, judge))


def test_files_of_a_judge(tmp_path: Path) -> None:
    use(FILED)
    judge = read_concept(concept_file(tmp_path, "{kind: red, model: w, least: 1, many: true, n: 2}")).judge
    assert judge.options == {"model": str(tmp_path / "w"), "least": 1, "many": True, "n": 2}
    before = judge_weights(judge, Fingerprints())
    (tmp_path / "w").write_text("other weights")
    assert judge_weights(judge, Fingerprints()) != before
    assert judge_weights(JudgeConfig("red", {}), Fingerprints()) == ""
    assert weights_of(judge) == (str(tmp_path / "w"),)


def test_rows_reach_other_processes_and_need_no_torch(tmp_path: Path) -> None:
    use(RED, ECHO)
    (tmp_path / "sent").write_bytes(pickle.dumps((registry().added, campaign())))
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "from pytest_unlearndiff.core.registry import Registry, set_registry\n"
        "rows, campaign = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "set_registry(built := Registry(rows))\n"
        "[*built.attacks, *built.judges]\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
        "print(campaign.key.digest)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "sent")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert output == [campaign().key.digest]


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        ("nowhere_at_all:Red", "No module named 'nowhere_at_all'; the module has to be importable"),
        ("some_reds:Green", "has no attribute 'Green'"),
        ("some_reds:number", "is a int, which cannot be called"),
        ("some_reds:nothing", "gave a NoneType, which cannot be called"),
    ],
)
def test_implementation_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, implementation: str, message: str
) -> None:
    from pytest_unlearndiff.judges.base import build_judge

    (tmp_path / "some_reds.py").write_text("number = 1\ndef nothing(device): return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_reds", raising=False)
    use(JudgeInfo("red", implementation, "1"))
    with pytest.raises(JudgeError, match=f"judge red: .*{message}"):
        build_judge(JudgeConfig("red", {}), "cpu")


def test_attack_that_cannot_be_built() -> None:
    """In a process that was sent a configuration and not its row, what is not attacked has not resisted."""
    from pytest_unlearndiff.attacks.base import build_attack

    use(AttackInfo("echo", "nowhere_at_all:Echo", "1"))
    config: Any = AttackConfig("echo")
    with pytest.raises(GateError, match="attack echo: nowhere_at_all:Echo: No module named"):
        build_attack(config, None)  # type: ignore[arg-type]
    set_registry(Registry())
    with pytest.raises(GateError, match="there is no attack 'echo' in this process"):
        build_attack(config, None)  # type: ignore[arg-type]
