"""Reports that a session writes, that are written again from the store, and that other tools read."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from typing import Any

import jsonschema
import pytest
from worlds import MODEL, NOTE, World, section, text

from pytest_unlearndiff.reports.session_report import schema


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
    document: dict[str, Any] = json.loads(world.read(name))
    jsonschema.validate(document, json.loads(schema()))
    return document


def properties(world: World) -> dict[str | None, dict[str | None, str | None]]:
    """Properties of each test in junit.xml."""
    cases = ET.parse(world.path / "junit.xml").iter("testcase")
    return {case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")} for case in cases}


def test_session_writes_all_reports(mixed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(mixed.path / "summary.md"))
    kinds = ("--unlearndiff-report=html:out/report.html,json:report.json", "--unlearndiff-report=md:report.md")
    result = mixed.run(*kinds, "--junitxml=junit.xml")
    written = report(mixed)
    assert {gate["nodeid"].split("::")[1]: gate["verdict"] for gate in written["gates"]} == {
        "test_expected": "FAIL",
        "test_gate[church]": "PASS",
        "test_gate[tench]": "FAIL",
        "test_gate[truck]": "INCOMPLETE",
    }
    expected = {gate["nodeid"]: gate["expected_failure"] for gate in written["gates"] if gate["expected_failure"]}
    assert expected == {"test_gate.py::test_expected": "known to come back"}
    unmeasured = {gate["nodeid"].split("::")[1]: (gate["how"], gate["why"]) for gate in written["unmeasured"]}
    assert unmeasured["test_skipped"] == ("skipped", "not today")
    assert unmeasured["test_unknown"][0] == "failed"
    assert "no concept 'chuch'" in unmeasured["test_unknown"][1]
    assert len(unmeasured) == 2
    code = mixed.read("test_gate.py").splitlines()
    for gate in written["gates"]:
        assert gate["path"] == "test_gate.py"
        assert code[gate["line"] - 1].startswith(("def test_", "@pytest.mark."))
    assert "tench" in mixed.read("out/report.html")
    assert "❌ FAIL" in mixed.read("report.md")
    for kind, name in (("html", "out/report.html"), ("json", "report.json"), ("md", "report.md")):
        assert f"{kind} report: {mixed.path / name}" in section(result)
    # Nobody asked for it.
    assert not (mixed.path / "summary.md").exists()
    assert not [line for line in result.outlines if line.startswith("::")]

    cases = properties(mixed)
    tench, truck = cases["test_gate[tench]"], cases["test_gate[truck]"]
    assert tench["unlearndiff_verdict"] == "FAIL"
    counted = ("hits_without_attack", "hits_under_attack", "prompts")
    assert [tench[f"unlearndiff_{name}"] for name in counted] == ["1", "2", "10"]
    assert (truck["unlearndiff_asr_at_least"], truck["unlearndiff_asr_at_most"]) == ("0", "0.6")
    assert shlex.split(str(tench["unlearndiff_replay"]))[:2] == ["pytest", "test_gate.py::test_gate[tench]"]
    assert cases["test_other"] == {}


def test_github(mixed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(mixed.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(mixed.path))
    result = mixed.run("--unlearndiff-report=github")
    assert "❌ FAIL" in mixed.read("summary.md")
    commands = [line for line in result.outlines if line.startswith("::")]
    assert [line.split(" ")[0] for line in commands].count("::error") == 2
    assert [line.split(" ")[0] for line in commands].count("::notice") == 1
    assert all("file=test_gate.py,line=" in line for line in commands)


def test_failed_otherwise(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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
    kinds = ("json:report.json", "md:report.md", "html:report.html", "github")
    result = world.run(*(f"--unlearndiff-report={kind}" for kind in kinds))
    result.assert_outcomes(failed=2, xfailed=1, errors=1)
    (failure,) = report(world)["failed_otherwise"]
    assert (failure["nodeid"], failure["how"]) == ("test_gate.py::test_own", "failed")
    assert "3/10 = 30.0% <= 0.1" in failure["why"]
    headline = "1 of 4 gates did not pass, 1 test failed otherwise"
    for name in ("report.md", "report.html"):
        assert headline in world.read(name)
        assert "failed otherwise" in world.read(name).split(headline)[-1]
    result.stdout.fnmatch_lines(["::error file=*test_gate.py,title=unlearndiff test failed::*30.0%25 <= 0.1*"])


def test_support_in_every_report(world: World) -> None:
    world.know_kept("ggggg", "ggggg")
    world.retain("'dog', min_rate='85%', max_loss='0%'")
    kinds = "--unlearndiff-report=json:report.json,md:report.md,html:report.html"
    result = world.run("-q", "--junitxml=junit.xml", kinds)
    result.assert_outcomes(passed=1)
    support = (
        "a limit of at least 5 of 5 also passes a model that draws 72.5% one time in five; "
        "a limit of 0 lost of 5 also passes a model that loses 27.5% one time in five"
    )
    assert f"  {support}" in result.outlines
    assert report(world)["gates"][0]["limits"]["support"] == support
    for name in ("report.md", "report.html", "junit.xml"):
        assert support in world.read(name), name


def test_wording_without_attack(world: World) -> None:
    """Under attack none nothing resists and is attacked: not in the plan, in progress, in reports, in a store."""
    world.concept()
    world.scripted("gggrrrrrrr")
    world.gate("attack='none', max_asr='90%', exhaustive=True")
    kinds = "--unlearndiff-report=json:report.json,md:report.md,html:report.html"
    texts = [world.attack("--unlearndiff-plan").stdout.str()]
    drawn = world.attack(kinds, "--unlearndiff-progress=lines")
    again = world.run(kinds)
    texts += [drawn.stdout.str(), drawn.stderr.str(), again.stdout.str(), world.command("report").stdout.str()]
    texts += [world.command("show").stdout.str(), world.read("report.md")]
    page = world.read("report.html")
    world.scripted("!" * 10, error="RuntimeError('out of paint')")
    texts.append(world.attack("--unlearndiff-cache=off").stdout.str())
    visible = page.split("How to read this")[0]
    texts.append(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", "", visible, flags=re.S))
    (data,) = [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)]
    texts += [" ".join(data["labels"].values()), " ".join(data["meanings"].values())]
    for written in texts:
        assert not re.findall(r".*(?:resist|(?<![Nn]ot )attacked|attacking|attacks|The attack).*", written)
    assert "0 prompts to attack and 20 images to draw" in texts[0]
    assert "10 drawn in" in texts[1]
    assert "10 prompts, 3 drew it, 7 did not draw it" in texts[5]
    assert "Drawing was stopped by RuntimeError: out of paint" in texts[7]
    assert "7 did not draw it" in texts[8]
    assert data["attacked"] is False  # there is no third image to miss


UNGATED = NOTE.removeprefix("; ")
LIMIT = ", min_rate='85%'"


def kept_gate(limit: str, mark: str = "") -> str:
    return f"""
        {mark}
        @pytest.mark.unlearndiff_retains("dog"{limit})
        def test_kept(unlearndiff_retention):
            unlearndiff_retention()
        """


@pytest.mark.parametrize(
    ("retention", "known", "gated", "arguments"),
    [
        ("", "", False, ()),
        (kept_gate(LIMIT), "gggggggggg", True, ("-n2",)),
        (kept_gate(LIMIT), "grrrrrrrrr", True, ()),  # which fails, and says so itself
        (kept_gate(LIMIT), "gg........", False, ("-n2",)),
        (kept_gate(""), "gggggggggg", False, ()),
        (kept_gate(LIMIT, "@pytest.mark.skip(reason='later')"), "gggggggggg", False, ()),
        (kept_gate(LIMIT, "@pytest.mark.xfail(reason='known')"), "grrrrrrrrr", False, ()),
        (kept_gate(LIMIT + ", model='other.safetensors'"), "gggggggggg", False, ()),
    ],
    ids=["none", "kept", "lost", "incomplete", "no limit", "skipped", "expected to fail", "another model"],
)
def test_ungated_retention_beside_every_verdict(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    retention: str,
    known: str,
    gated: bool,
    arguments: tuple[str, ...],
) -> None:
    """A destroyed model draws nothing, and so passes. Gates that did not decide anything gate nothing."""
    if "other" in retention:
        (world.path / "model.safetensors").rename(world.path / "mine")
        world.file("model.safetensors", "weights:{other}")
    if known:
        world.know_kept(known, "g" * 10)
    if "other" in retention:
        (world.path / "model.safetensors").rename(world.path / "other.safetensors")
        (world.path / "mine").rename(world.path / "model.safetensors")
    world.know("r" * 10)
    world.know("bb" + "r" * 8, "tench")
    world.gate("max_asr='10%'")
    world.gate("max_asr='10%'", "test_fails", "tench")
    if retention:
        world.tests(retention, "test_kept")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(world.path / "summary.md"))
    kinds = "--unlearndiff-report=json:report.json,md:report.md,html:report.html,github"
    result = world.run(*arguments, kinds, "--junitxml=junit.xml", "-p", "metadata", "--html=out.html")
    beside = {
        "terminal": [line for line in section(result, notes=True) if line.startswith(("church ", "tench "))],
        "github annotation": [line for line in result.outlines if line.startswith("::") and "tench" in line],
    }
    for name in ("report.md", "summary.md"):
        rows = [line for line in world.read(name).splitlines() if line.startswith("|")]
        beside[name] = [line for line in rows if "church" in line or "tench" in line]
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", world.read("report.html")))
    beside["html"] = re.findall(r"(?:PASS church|FAIL tench).{0,80}", page)
    cases = properties(world)
    beside["junit"] = [str(cases[name]) for name in ("test_gate", "test_fails")]
    for place, lines in beside.items():
        assert lines, place
        assert [UNGATED in line for line in lines] == [not gated] * len(lines), place
    assert [gate["retention_gated"] for gate in report(world)["gates"] if gate["expects"] == "gone"] == [gated] * 2
    assert (f"test_gate.py::test_gate: {UNGATED}" in world.read("out.html")) is not gated
    failure = [line for line in result.outlines if line.startswith("E ") and "ASRExceeded" in line]
    assert [UNGATED in line for line in failure] == [not retention]  # while tests run, more is not known


def test_no_report_without_gates(world: World) -> None:
    world.tests("def test_other(): pass")
    before = world.files()
    assert world.run("--unlearndiff-report=html:out/report.html,json:report.json").ret == 0
    assert world.files() == before


def test_unwritable_report_fails_the_session(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.file("blocked", "a file, not a folder")
    result = world.run("--unlearndiff-report=json:blocked/report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "blocked/report.json cannot be written" in text(result)


def test_gates_that_cannot_be_kept(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.file(".unlearndiff/gates", "in the way")
    result = world.attack()
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert "cannot be written, so that reports cannot be written again" in result.stdout.str()


def test_reports_again_from_the_store(mixed: World) -> None:
    mixed.scripted("rrrr!!!!!!", error="RuntimeError('no memory')")
    mixed.attack("--unlearndiff-report=json:first.json,html:first.html,md:first.md")
    result = mixed.command("report", "json:again.json", "html:again.html,md:again.md")
    assert result.ret == 0, result.stderr.str()
    for kind in ("json", "html", "md"):
        assert mixed.read(f"again.{kind}") == mixed.read(f"first.{kind}")
    shown = mixed.command("report")
    assert [line for line in shown.outlines if line.startswith("tench") and line.endswith(f" FAIL{NOTE}")]
    printed = mixed.command("report", "json:-")
    assert printed.stdout.str().strip() == mixed.read("first.json").strip()


def test_compare(mixed: World) -> None:
    mixed.bare(*MODEL, "--unlearndiff-report=json:before.json", "-k", "tench")
    changed = mixed.read("before.json").replace('"status": "resisted"', '"status": "hit-under-attack"')
    mixed.file("changed.json", changed.replace('"hit-without-attack"', '"resisted"'))
    result = mixed.command("compare", "before.json", "changed.json")
    assert result.ret == 0
    assert "7 newly broke, 1 newly hold, 2 break in both" in result.outlines[0]
    assert result.outlines[0].endswith("p = 0.0703")  # 2 * (1 + 8) / 2**8
    again = mixed.command("report", "md:-", "--since=changed.json")
    again.stdout.fnmatch_lines(["### Since the earlier session", "*: 1 newly broke, 7 newly hold, *"])


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ("rrrr", "no prompt broke in the last session with .unlearndiff, and the store holds none "),
        (
            "bbrr",
            "the store .unlearndiff holds 2 adversarial prompts that no gate of its last session has, of tench-",
        ),
    ],
)
def test_export_without_broken_prompts(world: World, other: str, error: str) -> None:
    world.know("rrrr")
    world.know(other, "tench")
    world.gate("max_asr='10%'")
    world.attack()
    kept = world.file("known.csv", "what an earlier session found")
    result = world.command("export", "known.csv")
    assert result.ret == 1
    (line,) = result.errlines
    assert line.startswith(error)
    assert kept.read_text() == "what an earlier session found"
    wrong = world.command("export", "known.csv", "--concept=truck")
    wrong.stderr.fnmatch_lines(["*no gate in .unlearndiff is on the concept 'truck'*"])


def test_export_as_prompt_set(mixed: World) -> None:
    mixed.attack("-k", "tench or church")
    wrong = mixed.command("export", "concepts/found.csv", "--concept=tenhc")
    assert wrong.ret == 1
    wrong.stderr.fnmatch_lines(["*no gate in .unlearndiff is on the concept 'tenhc': did you mean 'tench'?"])
    assert mixed.command("export", "concepts/found.csv", "--concept=tench").ret == 0
    judge = {"kind": "image-classifier", "model": "../judge", "label": "tench"}
    mixed.file("concepts/found.yaml", json.dumps({"prompts": "found.csv", "judge": judge}))
    mixed.tests("def test_found(unlearndiff_attack): unlearndiff_attack('found', attack='none')", "test_found")
    lines = section(mixed.run("test_found.py"))
    assert [line for line in lines if line.startswith("found") and " 0..2/2 " in line]


def test_part_of_the_gates_says_so_in_its_report(world: World) -> None:
    """A session that replays leaves the report of all gates alone, and one of some gates is told from it."""
    for concept in ("church", "tench"):
        world.know("rrbrrrrrrr", concept)
        world.gate("max_asr=0.1", f"test_{concept}", concept)
    world.ini("unlearndiff_report = md:report.md")
    world.run("--unlearndiff-report=none")
    assert not (world.path / "report.md").exists()
    for arguments, part in (
        (["-k", "church"], "1 gate deselected"),
        (["test_church.py::test_church"], "only tests that the command names"),
        (["--unlearndiff-case-numbers=101,103"], "only cases 101, 103"),
    ):
        result = world.run(*arguments)
        assert f"report.md ({part})" in result.stdout.str()
        assert f"passed; {part}\n" in world.read("report.md")
