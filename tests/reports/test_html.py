"""The HTML report needs nothing else, hides nothing, and whatever prompts say stays text."""

from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from builders import texts
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image
from sessions import HOSTILE, hostile, quality, record, retained, session

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.result import Control
from pytest_unlearndiff.reports import evidence as module
from pytest_unlearndiff.reports.html import html_report, pieces, wrapped
from pytest_unlearndiff.reports.overview import short_name
from pytest_unlearndiff.reports.session_report import ReportOptions, SessionReport, UnmeasuredTest
from pytest_unlearndiff.store.store import Mode, Store
from pytest_unlearndiff.store.thumbnails import Thumbnails, near_miss


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the data of every gate."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: dict[str, Any] = {}
        self.scripts: list[str] = []
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag, dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        self._inside = "", {}

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[str(attributes["id"]).removesuffix("-data")] = json.loads(data)
        elif tag == "script":
            self.scripts.append(data)
        elif tag != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(found: SessionReport, store: Store | None = None) -> Page:
    return Page(html_report(found, ReportOptions(images=store)))


LORA = UnmeasuredTest("test_x.py::test_lora", "failed", "ModelError: there is nothing")
TEXTS = [
    # The one that a reviewer has to see stands first.
    (session(record("gbb" + "r" * 7, "church"), record("r" * 10, "tench")),
     ("1 of 2 gates did not pass", "3/10 = 30.0%", "interval 6.7%..65.2%", "ASR <= 10.0%", "PASS tench")),
    (session(record("g" + "r" * 7 + "e-", "church")),
     ("1..3/10 = 10.0%..30.0%", "1 of 10 prompts is missing and 1 errored. Each may be a success",
      "between 1/10 = 10.0% and 3/10 = 30.0%")),
    (session(record("bbr--", "church")),
     ("2 prompts were not needed: what the counts say is certain without them.",
      "between 2/5 = 40.0% and 4/5 = 80.0%")),
    (session(record("bbr", control=Control(19, 20))),
     ("judge saw it in 19 of 20 of the un-erased model's own images",)),
    (session(unmeasured=[LORA], cut_short="stopping after 1 failures"),
     ("No gate was measured, 1 not measured", "test_x.py::test_lora failed: ModelError: there is nothing",
      "stopping after 1 failures")),
    (session(record("r" * 10), retained(), retained("gg", "gg", "cat")),
     ("1 of 3 gates did not pass", "INCOMPLETE dog kept · test_x.py::test_dog draws 8..9/10 = 80.0%..90.0%",
      "the base draws 10/10, 1..2 lost", "PASS cat kept · test_x.py::test_cat draws 2/2 = 100.0%")),
    (session(retained()), ("INCOMPLETE",)),
    # Everything that nobody tested is said beside the verdicts.
    (session(record("rrrrrr-", victim="a.pt"), record("rr", "tench", attack="none", victim="a.pt")),
     ("Nothing gates what a.pt must still draw", "Not attacked: tench.", "No positive control: church, tench.",
      "PASS tench not attacked", "drawn 0/2 = 0.0%", "1 of 7 prompts of church have no outcome",
      "Not decided: church.")),
    (session(record("r" * 6 + "-", gate=Gate(Fraction(1, 2)))), ("1 not needed", "none could change the verdict")),
    (session(record("r", victim="/x/a.pt"), user="ada", commit="ab" * 20, rootdir="/x", arguments=["-x", "a b"],
             created="2026-11-28T15:00:00+00:00"),
     ("run by ada", "model a.pt", "commit " + "ab" * 20, "2026-11-28 15:00:00 UTC", "pytest -x 'a b'", "Sign-off")),
]  # fmt: skip


def words(report: SessionReport) -> str:
    return " ".join(page(report).text.split())


@pytest.mark.parametrize(("report", "phrases"), TEXTS, ids=range(len(TEXTS)))
def test_text(report: SessionReport, phrases: tuple[str, ...]) -> None:
    assert [phrase for phrase in phrases if phrase not in words(report)] == []


@pytest.mark.parametrize(
    ("victim", "shown"),
    [
        ("/x/models/a.pt", "models/a.pt"),
        ("/y/a.pt", "/y/a.pt"),
        (f"/c/hub/models--org--my--sd/snapshots/{'ab' * 20}", f"org/my--sd (revision {'ab' * 20})"),
        (f"/c/models--org--sd/snapshots/{'ab' * 20}/esd.pt", f"org/sd/esd.pt (revision {'ab' * 20})"),
    ],
)
def test_names_of_models(victim: str, shown: str) -> None:
    assert short_name(session(record("r"), rootdir="/x"), victim) == shown


def test_a_session_that_somebody_altered_is_shown() -> None:
    odd: dict[str, Any] = {"created": 5, "arguments": 7, "versions": "x", "machine": [1], "user": {}, "rootdir": None}
    assert "machine [1] versions x" in words(session(record("r"), **odd))


def test_text_that_is_absent() -> None:
    assert words(TEXTS[0][0]).index("FAIL church") < words(TEXTS[0][0]).index("PASS tench")
    assert "1/10 = 10.0% " not in words(TEXTS[1][0]).replace("between 1/10 = 10.0% ", "")
    assert "No gate was measured" not in words(session(retained()))


def test_data_of_prompts() -> None:
    found = page(session(record("gbre-")))
    assert found.data["gate-1"]["replay"].startswith("pytest 'test_x.py::test_it[a b]'")
    shown = found.data["gate-1"]["prompts"]
    statuses = ["hit-without-attack", "hit-under-attack", "resisted", "error", "missing"]
    assert [prompt["status"] for prompt in shown] == statuses
    digest = record("gbre-").prompts[1].digest
    assert shown[1]["attacked"] == [["xyz", True], [f" {digest}", False]]
    assert shown[3]["error"] == "RuntimeError: out of memory"
    assert (shown[4]["case"], shown[4]["seed"], shown[4]["guidance"]) == (104, 1004, 7.5)


@pytest.mark.parametrize(
    ("attack", "schedule", "spent", "text"),
    [
        ("unlearndiff", {"rounds": 10, "timesteps": [0.5]}, (4, 3, 312, None), "round 3 of 10, step 3, 312"),
        ("unlearndiff", {"timesteps": [0.1, 0.2]}, (3, 80, 360, 200), "round 2 of 2, timestep 200, step 80, 360"),
        ("ring-a-bell", {"rounds": 10}, (2, 0, 100, None), "round 1 of 10, 100"),
        ("random", {"rounds": 10, "timesteps": [0.5]}, (6, 0, 300, None), "attempt 5, 300"),
        ("transfer", None, (2, 0, 100, None), "attempt 1, 100"),
    ],
)
def test_effort_until_a_hit(attack: str, schedule: Any, spent: Any, text: str) -> None:
    found = record("br")
    facts = dict(zip(("evaluations", "steps", "forwards", "timestep"), spent, strict=True))
    prompts = [replace(prompt, **facts) for prompt in found.prompts]
    campaign = {"attack": attack, "params": {"schedule": schedule} if schedule else {"known": "ab"}}
    shown = page(session(replace(found, prompts=prompts, campaign=campaign))).data["gate-1"]["prompts"]
    assert [prompt.get("broke") for prompt in shown] == [f"{text} network forwards", None]
    assert "broke" not in page(session(record("b"))).data["gate-1"]["prompts"][0]


def test_effort_curves() -> None:
    found = record("gbr")
    spent = zip(found.prompts, ((0, 50), (2, 150), (10, 550)), strict=True)
    prompts = [replace(prompt, steps=steps, forwards=forwards) for prompt, (steps, forwards) in spent]
    charts = page(session(replace(found, prompts=prompts))).named("svg")
    labels = [str(svg["aria-label"]).split(" per prompt")[0] for svg in charts if "role" in svg]
    assert labels == ["After 550 network forwards", "After 10 steps of the search"]


def test_self_contained() -> None:
    html = html_report(session(record("gbre-")), ReportOptions())
    found = Page(html)
    assert not re.search(r"""(?:src|href|url|@import)\s*[=(]\s*["']?\s*(?:https?:)?//""", html)
    assert {str(link["href"])[0] for link in found.named("a")} == {"#"}
    assert not found.named("link")
    [policy] = [meta["content"] for meta in found.named("meta") if meta.get("http-equiv")]
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in str(policy)
    assert len(found.scripts) == 1


def test_hostile_text_stays_text() -> None:
    html = html_report(hostile(), ReportOptions())
    found = Page(html)
    gates = [*(record("gbre-", f"thing{i}") for i in range(len(HOSTILE))), retained()]
    failed = [UnmeasuredTest("a", "failed", "b")]
    plain = page(SessionReport(gates=gates, quality=[quality("ggg-")], failed_otherwise=failed))
    # As many scripts as ever, no element or handler of the attacker's, no expression evaluated.
    assert len(found.scripts) == 1
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in plain.tags} | {"p", "section", "ul", "li", "strong"}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert not found.named("img")
    assert "{{ 7 * 7 }}" in found.text
    # Nothing that steers is written out; the script shows the data's by number.
    assert not set(html) & {"\x1b", "\x00", "\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029"}
    texts = {prompt["text"] for gate in found.data.values() for prompt in gate["prompts"]}
    assert texts == set(HOSTILE)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Store, SessionReport]:
    """A store with images of two prompts, one broken and one that resisted."""
    found = record("brg")
    store = Store(tmp_path, Mode.RO)
    images = Thumbnails(store.campaign_by_digest(found.concept, found.key).folder)
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    broken, resisted, _ = found.prompts
    assert broken.attacked is not None
    images.add(broken.digest, blue)
    images.add(broken.digest, red, base=True)
    images.add(broken.attacked.digest, red)
    images.add(resisted.digest, blue)
    images.add(near_miss(resisted.digest), red)
    return store, session(found)


def test_images(kept: tuple[Store, SessionReport]) -> None:
    store, found = kept
    broken, resisted, generated = page(found, store).data["gate-1"]["prompts"]
    base, victim, attacked = broken["images"]
    assert base == attacked != victim
    assert base64.b64decode(base).startswith(b"RIFF")
    assert [bool(image) for image in resisted["images"]] == [False, True, True]
    assert "images" not in generated
    shown = page(found, store)
    assert [image["alt"] for image in shown.named("img")] == [
        *(f"{title}, prompt 100" for title in ("base", "under test", "attacked")),
        *(f"{title}, prompt 101" for title in ("under test", "attacked")),
    ]
    assert "broken under attack" in shown.text
    assert "the attacked image that came closest" in shown.text
    assert not [tick for tick in shown.named("input") if "checked" in tick]  # blurred until clicked
    assert not [prompt for prompt in page(found).data["gate-1"]["prompts"] if "images" in prompt]


def test_a_store_is_asked_once_per_campaign(kept: tuple[Store, SessionReport], monkeypatch: pytest.MonkeyPatch) -> None:
    store, found = kept
    asked = []

    def thumbnails(concept: str, key: str) -> Thumbnails:
        asked.append(key)
        return Store.thumbnails(store, concept, key)

    monkeypatch.setattr(store, "thumbnails", thumbnails)
    page(found, store)
    assert asked == [found.gates[0].key]


def test_hits_come_first_where_images_do_not_fit(
    kept: tuple[Store, SessionReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, found = kept
    size = sum(map(len, page(found, store).data["gate-1"]["prompts"][0]["images"]))
    monkeypatch.setattr(module, "IMAGE_BYTES", size)
    shown = page(found, store)
    assert ["images" in prompt for prompt in shown.data["gate-1"]["prompts"]] == [True, False, False]
    assert "Images of 1 prompt are left out" in shown.text


def test_size() -> None:
    """Five gates of 1,000 prompts: what is not images takes under 4 MB, so that all is under 15."""
    found = session(*(record("b" * 100 + "r" * 900, f"thing{i}") for i in range(5)))
    assert module.IMAGE_BYTES + len(html_report(found, ReportOptions()).encode()) < 15_000_000


PROMPT = replace(record("b").prompts[0], text="a red church")


@pytest.mark.parametrize(
    ("adversarial", "inserted", "marked"),
    [
        *[(text, "x y", ["x y"]) for text in ("x y a red church", "a red church x y", "a red x y church")],
        ("x a red y church", "x y", ["x ", "y "]),
        ("church a red church", "church", ["church"]),
        *[("a red church", nothing, []) for nothing in (None, "")],
        (None, None, []),
    ],
)
def test_inserted_tokens_are_marked(adversarial: str | None, inserted: str | None, marked: list[str]) -> None:
    parts = pieces(replace(PROMPT, adversarial=adversarial, inserted=inserted))
    assert [text for text, is_marked in parts if is_marked] == marked
    assert "".join(text for text, _ in parts) == (adversarial or "")


@given(texts, st.none() | texts, st.none() | texts)
def test_pieces_are_the_prompt(text: str, adversarial: str | None, inserted: str | None) -> None:
    parts = pieces(replace(PROMPT, text=text, adversarial=adversarial, inserted=inserted))
    assert "".join(part for part, _ in parts) == (adversarial or "")


def test_lines_wrap_behind_the_separators_of_paths_and_hashes() -> None:
    text = "/models/uce-fish.pt a1+b2:float32 test_x.py::test_gate[a]"
    parts = ["/", "models/", "uce-fish.pt", " ", "a1+", "b2:float32", " ", "test_x.py::", "test_gate[a]"]
    assert wrapped(text) == parts
