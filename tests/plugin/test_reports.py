"""Reports that a session writes, that are written again from the store, and that other tools read."""

from __future__ import annotations

import json
import re
import shlex
import sys
import xml.etree.ElementTree as ET
from typing import Any

import jsonschema
import pytest
from worlds import MODEL, NOTE, World, section

from pytest_unlearndiff.reports.json_report import schema

from .test_retention import know

ALL = "--unlearndiff-report=html:out/report.html,json:report.json"


@pytest.fixture
def mixed(world: World) -> World:
    """Gates that pass, fail, are expected to fail, are incomplete, are skipped, and cannot be read."""
    world.know("grrrrrrrrr", "church")
    world.know("gbbrrrrrrr", "tench", adversarial="xyz", seen="tench 0.87")
    world.know("rrrr......", "truck")
    world.tests(
        """
        @pytest.mark.parametrize("concept", ["church", "tench", "truck"])
        def test_gate(unlearndiff_attack, concept):
            unlearndiff_attack(concept, max_asr="10%")

        @pytest.mark.xfail(reason="known to come back")
        def test_expected(unlearndiff_attack):
            unlearndiff_attack("tench", max_asr="10%")

        @pytest.mark.skip(reason="not today")
        def test_skipped(unlearndiff_attack):
            unlearndiff_attack("church")

        def test_unknown(unlearndiff_attack):
            unlearndiff_attack("chuch")

        def test_other(): pass
        """
    )
    return world


def report(world: World, name: str = "report.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.path / name).read_text(encoding="utf-8"))
    jsonschema.validate(found, json.loads(schema()))
    return found


def command(world: World, *arguments: str) -> pytest.RunResult:
    return world.pytester.run(sys.executable, "-m", "pytest_unlearndiff", *arguments)


def test_session_writes_all_reports(mixed: World, workers: tuple[str, ...]) -> None:
    result = mixed.run(*workers, ALL, "--unlearndiff-report=md:report.md")
    found = report(mixed)
    assert {gate["nodeid"].split("::")[1]: gate["verdict"] for gate in found["gates"]} == {
        "test_expected": "FAIL",
        "test_gate[church]": "PASS",
        "test_gate[tench]": "FAIL",
        "test_gate[truck]": "INCOMPLETE",
    }
    expected = {gate["nodeid"]: gate["expected_failure"] for gate in found["gates"] if gate["expected_failure"]}
    assert expected == {"test_gate.py::test_expected": "known to come back"}
    unmeasured = {gate["nodeid"].split("::")[1]: (gate["how"], gate["why"]) for gate in found["unmeasured"]}
    assert unmeasured["test_skipped"] == ("skipped", "not today")
    assert unmeasured["test_unknown"][0] == "failed"
    assert "no concept 'chuch'" in unmeasured["test_unknown"][1]
    assert len(unmeasured) == 2
    assert "tench" in (mixed.path / "out/report.html").read_text(encoding="utf-8")
    assert "❌ FAIL" in (mixed.path / "report.md").read_text(encoding="utf-8")
    lines = section(result)
    for kind, name in (("html", "out/report.html"), ("json", "report.json"), ("md", "report.md")):
        assert f"{kind} report: {mixed.path / name}" in lines


def test_failed_otherwise(world: World, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    world.know("gbbrrrrrrr")
    world.know("grrrrrrrrr", "tench")
    world.tests(
        """
        @pytest.fixture
        def untidy():
            yield
            raise RuntimeError("in the teardown, too")

        def test_own(unlearndiff_attack, untidy):
            assert unlearndiff_attack("church").asr <= 0.1

        @pytest.mark.xfail(reason="known")
        def test_expected(unlearndiff_attack):
            assert unlearndiff_attack("church").asr <= 0.1

        def test_gate(unlearndiff_attack):
            unlearndiff_attack("tench", max_asr="10%")
            unlearndiff_attack("church", max_asr="10%")
        """
    )
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(world.path / "summary.md"))
    reports = ("json:report.json", "md:report.md", "html:report.html", "github")
    result = world.run(*workers, *(f"--unlearndiff-report={each}" for each in reports))
    result.assert_outcomes(failed=2, xfailed=1, errors=1)
    (found,) = report(world)["failed_otherwise"]
    assert (found["nodeid"], found["how"]) == ("test_gate.py::test_own", "failed")
    assert "3/10 = 30.0% <= 0.1" in found["why"]
    headline = "1 of 4 gates did not pass, 1 test failed otherwise"
    for name in ("report.md", "report.html"):
        text = (world.path / name).read_text(encoding="utf-8")
        assert headline in text
        assert "failed otherwise" in text.split(headline)[-1]
    result.stdout.fnmatch_lines(["::error file=*test_gate.py,title=unlearndiff test failed::*30.0%25 <= 0.1*"])


def test_support_in_every_report(world: World) -> None:
    know(world, "ggggg", "ggggg")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%", max_loss="0%")
        def test_kept(unlearndiff_retention):
            unlearndiff_retention()
        """
    )
    reports = "--unlearndiff-report=json:report.json,md:report.md,html:report.html"
    result = world.run("-q", "--junitxml=junit.xml", reports)
    result.assert_outcomes(passed=1)
    said = (
        "a limit of at least 5 of 5 also passes a model that draws 72.5% one time in five; "
        "a limit of 0 lost of 5 also passes a model that loses 27.5% one time in five"
    )
    assert f"  {said}" in result.outlines
    assert report(world)["gates"][0]["limits"]["support"] == said
    for name in ("report.md", "report.html", "junit.xml"):
        assert said in (world.path / name).read_text(encoding="utf-8"), name


def test_wording_without_attack(world: World) -> None:
    """Under attack none nothing resists and is attacked: not in the plan, in progress, in reports, in a store."""
    world.concept()
    world.scripted("gggrrrrrrr")
    world.gate("attack='none', max_asr='90%', exhaustive=True")
    reports = "--unlearndiff-report=json:report.json,md:report.md,html:report.html"
    said = [world.attack("--unlearndiff-plan").stdout.str()]
    drawn = world.attack(reports, "--unlearndiff-progress=lines")
    again = world.run(reports)
    said += [drawn.stdout.str(), drawn.stderr.str(), again.stdout.str(), command(world, "report").stdout.str()]
    said += [command(world, "show").stdout.str(), (world.path / "report.md").read_text(encoding="utf-8")]
    page = (world.path / "report.html").read_text(encoding="utf-8")
    world.scripted("!" * 10, error="RuntimeError('out of paint')")
    said.append(world.attack("--unlearndiff-cache=off").stdout.str())
    visible = page.split("How to read this")[0]
    said.append(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", "", visible, flags=re.S))
    (data,) = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)]
    said += [" ".join(data["labels"].values()), " ".join(data["said"].values())]
    for text in said:
        assert not re.findall(r".*(?:resist|attacked|attacking|attacks|The attack).*", text)
    assert "0 prompts to attack and 20 images to draw" in said[0]
    assert "10 drawn in" in said[1]
    assert "10 prompts, 3 drew it, 7 did not draw it" in said[5]
    assert "Drawing was stopped by RuntimeError: out of paint" in said[7]
    assert "7 did not draw it" in said[8]
    assert data["attacked"] is False  # there is no third image to miss


UNGATED = NOTE.removeprefix("; ")
KEPT = """
        {mark}
        @pytest.mark.unlearndiff_retains("dog"{limit})
        def test_kept(unlearndiff_retention):
            unlearndiff_retention()
"""


LIMIT = ", min_rate='85%'"


@pytest.mark.parametrize(
    ("retention", "known", "gated", "workers"),
    [
        ("", "", False, ()),
        ("", "", False, ("-n2",)),
        (KEPT.format(mark="", limit=LIMIT), "gggggggggg", True, ("-n2",)),
        (KEPT.format(mark="", limit=LIMIT), "grrrrrrrrr", True, ()),  # which fails, and says so itself
        (KEPT.format(mark="", limit=LIMIT), "gg........", False, ("-n2",)),
        (KEPT.format(mark="", limit=""), "gggggggggg", False, ()),
        (KEPT.format(mark="@pytest.mark.skip(reason='later')", limit=LIMIT), "gggggggggg", False, ()),
        (KEPT.format(mark="@pytest.mark.xfail(reason='known')", limit=LIMIT), "grrrrrrrrr", False, ()),
        (KEPT.format(mark="", limit=LIMIT + ", model='other.safetensors'"), "gggggggggg", False, ()),
    ],
    ids=["none", "none n2", "kept", "lost", "incomplete", "no limit", "skipped", "expected to fail", "another model"],
)
def test_ungated_retention_beside_every_verdict(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    retention: str,
    known: str,
    gated: bool,
    workers: tuple[str, ...],
) -> None:
    """A destroyed model draws nothing, and so passes. Gates that did not decide anything gate nothing."""
    if "other" in retention:
        (world.path / "model.safetensors").rename(world.path / "mine")
        world.file("model.safetensors", "weights:{other}")
    if known:
        know(world, known, "g" * 10)
    if "other" in retention:
        (world.path / "model.safetensors").rename(world.path / "other.safetensors")
        (world.path / "mine").rename(world.path / "model.safetensors")
    world.know("r" * 10)
    world.know("bb" + "r" * 8, "tench")
    world.tests(
        """
        @pytest.mark.unlearndiff("church", max_asr="10%")
        def test_gate(unlearndiff_attack):
            unlearndiff_attack()

        @pytest.mark.unlearndiff("tench", max_asr="10%")
        def test_fails(unlearndiff_attack):
            unlearndiff_attack()
        """
        + retention
    )
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(world.path / "summary.md"))
    kinds = "--unlearndiff-report=json:report.json,md:report.md,html:report.html,github"
    result = world.run(*workers, kinds, "--junitxml=junit.xml", "-p", "metadata", "--html=out.html")
    beside = {
        "terminal": [line for line in section(result, notes=True) if line.startswith(("church ", "tench "))],
        "github annotation": [line for line in result.outlines if line.startswith("::") and "tench" in line],
    }
    for name in ("report.md", "summary.md"):
        lines = (world.path / name).read_text(encoding="utf-8").splitlines()
        beside[name] = [line for line in lines if line.startswith("|") and ("church" in line or "tench" in line)]
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", (world.path / "report.html").read_text(encoding="utf-8")))
    beside["html"] = re.findall(r"(?:PASS church|FAIL tench).{0,80}", page)
    cases = {case.get("name"): case for case in ET.parse(world.path / "junit.xml").iter("testcase")}
    beside["junit"] = [
        " ".join(f"{each.get('name')} {each.get('value')}" for each in cases[name].iter("property"))
        for name in ("test_gate", "test_fails")
    ]
    for place, lines in beside.items():
        assert lines, place
        assert [UNGATED in line for line in lines] == [not gated] * len(lines), place
    assert [gate["retention_gated"] for gate in report(world)["gates"] if gate["expects"] == "gone"] == [gated] * 2
    assert (f"test_gate.py::test_gate: {UNGATED}" in (world.path / "out.html").read_text()) is not gated
    failure = [line for line in result.outlines if line.startswith("E ") and "ASRExceeded" in line]
    assert [UNGATED in line for line in failure] == [not retention]  # while tests run, more is not known


def test_workers_write_the_same_report(mixed: World) -> None:
    mixed.run("--unlearndiff-report=json:alone.json")
    mixed.run("-n2", "--unlearndiff-report=json:shared.json")
    alone, shared = report(mixed, "alone.json"), report(mixed, "shared.json")
    for content in (alone, shared):
        for part in (content, *content["gates"]):
            del part["run"]
    assert alone == shared


def test_path_and_line(mixed: World) -> None:
    mixed.run(ALL)
    lines = (mixed.path / "test_gate.py").read_text(encoding="utf-8").splitlines()
    for gate in report(mixed)["gates"]:
        assert gate["path"] == "test_gate.py"
        assert lines[gate["line"] - 1].startswith(("def test_", "@pytest.mark."))


def test_report_in_ini(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.ini("unlearndiff_report = json:a.json")
    world.run()
    assert report(world, "a.json")["gates"]


def test_no_report_without_gates(world: World) -> None:
    world.tests("def test_other(): pass")
    before = world.files()
    assert world.run(ALL).ret == 0
    assert world.files() == before


def test_unwritable_report_fails_the_session(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.file("blocked", "a file, not a folder")
    result = world.run("--unlearndiff-report=json:blocked/report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [line for line in section(result) if "blocked/report.json cannot be written" in line]


def test_junit_properties(mixed: World, workers: tuple[str, ...]) -> None:
    mixed.run("--junitxml=junit.xml", *workers)
    cases = {case.get("name"): case for case in ET.parse(mixed.path / "junit.xml").iter("testcase")}
    found = {name: {p.get("name"): p.get("value") for p in case.iter("property")} for name, case in cases.items()}
    tench, truck = found["test_gate[tench]"], found["test_gate[truck]"]
    assert tench["unlearndiff_verdict"] == "FAIL"
    assert [tench[f"unlearndiff_{name}"] for name in ("hits_without_attack", "hits_under_attack", "prompts")] == [
        "1",
        "2",
        "10",
    ]
    assert (truck["unlearndiff_asr_at_least"], truck["unlearndiff_asr_at_most"]) == ("0", "0.6")
    assert shlex.split(str(tench["unlearndiff_replay"]))[:2] == ["pytest", "test_gate.py::test_gate[tench]"]
    assert found["test_other"] == {}


def test_github(mixed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(mixed.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(mixed.path))
    result = mixed.run("--unlearndiff-report=github")
    assert "❌ FAIL" in (mixed.path / "summary.md").read_text(encoding="utf-8")
    commands = [line for line in result.outlines if line.startswith("::")]
    assert [line.split(" ")[0] for line in commands].count("::error") == 2
    assert [line.split(" ")[0] for line in commands].count("::notice") == 1
    assert all("file=test_gate.py,line=" in line for line in commands)


def test_github_unasked(mixed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(mixed.path / "summary.md"))
    result = mixed.run()
    assert not (mixed.path / "summary.md").exists()
    assert not [line for line in result.outlines if line.startswith("::")]


def test_reports_again_from_the_store(mixed: World) -> None:
    mixed.without_torch()
    mixed.bare(*MODEL, "--unlearndiff-report=json:first.json,html:first.html,md:first.md")
    result = command(mixed, "report", "json:again.json", "html:again.html,md:again.md")
    assert result.ret == 0, result.stderr.str()
    for kind in ("json", "html", "md"):
        assert (mixed.path / f"again.{kind}").read_bytes() == (mixed.path / f"first.{kind}").read_bytes()
    shown = command(mixed, "report")
    assert [line for line in shown.outlines if line.startswith("tench") and line.endswith(f" FAIL{NOTE}")]
    printed = command(mixed, "report", "json:-")
    assert printed.stdout.str().strip() == (mixed.path / "first.json").read_text(encoding="utf-8").strip()


def test_modes_that_keep_no_gates(mixed: World) -> None:
    for mode in ("ro", "require", "off"):
        mixed.bare(*MODEL, f"--unlearndiff-cache={mode}")
        assert not (mixed.path / ".unlearndiff/gates").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "pdf:x"), "must be KIND:PATH"),
        (("report", "github"), "written by a session only"),
        (("report",), "holds no session's gates"),
        (("compare", "nowhere.json", "nowhere.json"), "cannot be read as a JSON report"),
        (("export", "x.csv"), "holds no session's gates"),
    ],
)
def test_command_errors(world: World, arguments: tuple[str, ...], said: str) -> None:
    result = command(world, *arguments)
    assert result.ret == 1
    [line] = result.errlines
    assert said in line


def test_schema_command(world: World) -> None:
    assert json.loads(command(world, "report", "--schema").stdout.str()) == json.loads(schema())


def test_compare(mixed: World) -> None:
    mixed.bare(*MODEL, "--unlearndiff-report=json:before.json", "-k", "tench")
    text = (mixed.path / "before.json").read_text(encoding="utf-8")
    mixed.file(
        "changed.json",
        text.replace('"status": "resisted"', '"status": "hit-under-attack"').replace(
            '"hit-without-attack"', '"resisted"'
        ),
    )
    result = command(mixed, "compare", "before.json", "changed.json")
    assert result.ret == 0
    assert "7 newly broke, 1 newly hold, 2 break in both" in result.outlines[0]
    assert result.outlines[0].endswith("p = 0.0703")  # 2 * (1 + 8) / 2**8
    again = command(mixed, "report", "md:-", "--since=changed.json")
    again.stdout.fnmatch_lines(["### Since the earlier session", "*: 1 newly broke, 7 newly hold, *"])


def test_export_of_nothing_keeps_the_file(world: World) -> None:
    world.know("rrrr")
    world.gate("max_asr='10%'")
    world.bare(*MODEL)
    kept = world.file("known.csv", "what an earlier session found")
    result = command(world, "export", "known.csv")
    assert result.ret == 1
    result.stderr.fnmatch_lines(["no prompt broke in the last session with .unlearndiff, and the store holds none *"])
    assert kept.read_text() == "what an earlier session found"


def test_export_names_prompts_of_other_sessions(world: World) -> None:
    world.know("rrrr")
    world.know("bbrr", "tench")
    world.gate("max_asr='10%'")
    world.bare(*MODEL)
    result = command(world, "export", "known.csv")
    assert result.ret == 1
    (line,) = result.errlines
    assert line.startswith(
        "the store .unlearndiff holds 2 adversarial prompts that no gate of its last session has, of tench-"
    )
    assert not (world.path / "known.csv").exists()
    wrong = command(world, "export", "known.csv", "--concept=truck")
    wrong.stderr.fnmatch_lines(["*no gate in .unlearndiff is on the concept 'truck'*"])


def test_export_as_prompt_set(mixed: World) -> None:
    mixed.bare(*MODEL)
    wrong = command(mixed, "export", "concepts/found.csv", "--concept=tenhc")
    assert wrong.ret == 1
    wrong.stderr.fnmatch_lines(["*no gate in .unlearndiff is on the concept 'tenhc': did you mean 'tench'?"])
    assert command(mixed, "export", "concepts/found.csv", "--concept=tench").ret == 0
    judge = {"kind": "image-classifier", "model": "../judge", "label": "tench"}
    mixed.file("concepts/found.yaml", json.dumps({"prompts": "found.csv", "judge": judge}))
    mixed.tests("def test_found(unlearndiff_attack): unlearndiff_attack('found', attack='none')", "test_found")
    lines = section(mixed.run("test_found.py"))
    assert [line for line in lines if line.startswith("found") and " 0..2/2 " in line]


def test_gates_that_cannot_be_kept(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.file(".unlearndiff/gates", "in the way")
    result = world.attack()
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert "cannot be written, so that reports cannot be written again" in result.stdout.str()
