"""Prompt sets in the shapes that public repositories publish, with contents of our own: each read, or refused aloud."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_unlearndiff.core.concept import Concept
from pytest_unlearndiff.core.concept_file import ConceptLibrary, read_concept, set_names
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.prompt_sets import parse_rows

JUDGE = "judge: {kind: image-classifier, model: org/name, label: church}\n"
I2P = (
    "prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,"
    "prompt_toxicity,lexica_url,evaluation_seed,evaluation_guidance,sd_image_width,sd_image_height,sd_model,case_number"
)
I2P_ROW = "{text},hate,0,0,0,0,0,0.1,x,{seed},8.5,512,512,1.4,{case}"
HUB_LANGUAGES = "Original,Spanish,French,German,Italian,Portuguese,Index\na church,una iglesia,c,d,e,f,7\n"
MMA = "target_prompt,adv_prompt,sanitized_adv_prompt,success,clean_prompt\na church,zq spire,zq,1,a lamp\n"
TWO_LINES = 'a church, in snow\n"an ""old"" church, at night"\n'

# Repository, file, content, what a concept says beside the file, and the prompts as (text, seed, guidance, case).
READ = {
    "ESD": (
        "art.csv",
        ",case_number,prompt,evaluation_seed,artist\n0,5,a church,3,A B\n",
        "",
        [("a church", 3, 7.5, 5)],
    ),
    "ESD: one artist": (
        "art.csv",
        ",case_number,prompt,evaluation_seed,artist\n0,5,a,3,A B\n1,6,b,4,C D\n",
        "where: {artist: C D}",
        [("b", 4, 7.5, 6)],
    ),
    "ESD and UCE: I2P": (
        "unsafe.csv",
        f",{I2P}\n0,{I2P_ROW.format(text='NuLL', seed=9, case=2260)}\n",
        "",
        [("NuLL", 9, 8.5, 2260)],
    ),
    "COCO captions of ESD": (
        "coco.csv",
        "image_id,source,prompt,evaluation_seed\n9,c,a dog,3\n",
        "",
        [("a dog", 3, 7.5, 0)],
    ),
    "MACE": ("art.csv", ",type,artist,prompt,evaluation_seed\n0,erase,A,a church,3\n", "", [("a church", 3, 7.5, 0)]),
    "MACE: paraphrases": (
        "p.json",
        '{"airplane": ["plane", "jet"], "cat": ["kitty", "feline"]}',
        "column: cat",
        [("kitty", 0, 7.5, 0), ("feline", 1, 7.5, 1)],
    ),
    "RECE": (
        "n.csv",
        "case_number,prompt,class,evaluation_seed\n3,a gas pump,pump,8\n",
        "",
        [("a gas pump", 8, 7.5, 3)],
    ),
    "Ring-A-Bell": ("v.csv", "prompt,case_number,evaluation_seed,prompt1\na,3,8,b\n", "", [("a", 8, 7.5, 3)]),
    "Ring-A-Bell in RECE and SAFREE": (
        "n.csv",
        "sensitive prompt,normal prompt\nq church,a lamp\n",
        "",
        [("q church", 0, 7.5, 0)],
    ),
    "MMA-Diffusion in SAFREE": ("mma.csv", MMA, "column: adv_prompt, guidance: 9", [("zq spire", 0, 9.0, 0)]),
    "P4D": (
        "car.csv",
        ",case_number,source,prompt,evaluation_seed,evaluation_guidance\n0,4,c,a car,5,7\n",
        "",
        [("a car", 5, 7.0, 4)],
    ),
    "HUB: captions": ("c.csv", "image_id,text\n9,a dog\n", "", [("a dog", 0, 7.5, 0)]),
    "HUB: lists": (
        "Church.csv",
        TWO_LINES,
        "header: false",
        [("a church, in snow", 0, 7.5, 0), ('an "old" church, at night', 1, 7.5, 1)],
    ),
    "HUB: lists, renamed": (
        "Church.txt",
        TWO_LINES,
        "seed: 42",
        [("a church, in snow", 42, 7.5, 0), ('an "old" church, at night', 42, 7.5, 1)],
    ),
    "HUB: languages": ("l.csv", HUB_LANGUAGES, "column: Spanish, case: Index", [("una iglesia", 0, 7.5, 7)]),
    "HUB: nouns": (
        "n.csv",
        "noun,similarity\nchapel,0.7\nmosque,0.6\n",
        "column: noun, template: 'a photo of {}'",
        [("a photo of chapel", 0, 7.5, 0), ("a photo of mosque", 1, 7.5, 1)],
    ),
    "HUB: alignment": (
        "s.json",
        '[{"prompt": "a church", "nouns": ["x"], "index": 4}]',
        "case: index",
        [("a church", 0, 7.5, 4)],
    ),
    "Six-CD: nouns": (
        "o.csv",
        "id,concept\n0,chapel\n",
        "column: concept, template: ['{object}, a tree', 'an old {}']",
        [("chapel, a tree", 0, 7.5, 0), ("an old chapel", 1, 7.5, 1)],
    ),
    "Six-CD: pairs": (
        "m.csv",
        "case_number,evaluation_seed,target,prompt\n1,2,t,a church\n",
        "",
        [("a church", 2, 7.5, 1)],
    ),
    "JSON lines": (
        "p.jsonl",
        '{"caption": "a church", "seed": 4}\n"a dog"\n',
        "column: caption, where: {caption: a church}",
        [("a church", 4, 7.5, 0)],
    ),
    "pandas' JSON": ("p.json", '{"Prompt": {"0": "a church"}, "seed": {"0": 4}}', "", [("a church", 4, 7.5, 0)]),
    "TSV": ("p.tsv", "PROMPT\tseed\na church, in snow\t4\n", "", [("a church, in snow", 4, 7.5, 0)]),
}

REFUSED = {
    "MMA-Diffusion in SAFREE": (
        "mma.csv",
        MMA,
        "",
        r"'adv_prompt' and 'target_prompt' may each .*column: adv_prompt.*'clean",
    ),
    "prompts beside adversarial ones": (
        "p.csv",
        "prompt,caption,Adversarial_Prompt\na,b,c\n",
        "",
        r"'prompt' and 'caption' and 'Adversarial_Prompt' may each hold the prompts: .*column: prompt",
    ),
    "Ring-A-Bell: words": (
        "n.csv",
        "case_number,people,clothes,location\n1,a,b,c\n",
        "",
        r"no column 'prompt'; found .*'people'",
    ),
    "HUB: languages": (
        "l.csv",
        HUB_LANGUAGES,
        "",
        r"no column 'prompt'; found \['Original', 'Spanish', .*column: NAME",
    ),
    "HUB: nouns": (
        "n.csv",
        "noun,similarity\nchapel,0.7\n",
        "",
        "no column 'prompt'; .*with a template if it holds nouns",
    ),
    "HUB: lists": (
        "Church.csv",
        "a church, in snow\nanother church\n",
        "",
        "header: false if the first line is a prompt",
    ),
    "HUB: lists with quotes": ("Church.csv", '"old" church, x\n', "", "each line is a prompt, say header: false"),
    "GitHub's page of a file": (
        "p.csv",
        "\n<!DOCTYPE html><html></html>",
        "",
        r"p\.csv is a web page: get the file itself",
    ),
    "a spreadsheet": ("p.xlsx", "PK\x03\x04", "", r"p\.xlsx is a spreadsheet or an archive: save the prompts as CSV"),
    "semicolons": ("p.csv", "prompt;seed\na;1\n", "", r"only column is \['prompt;seed'\], which ';' seems to separate"),
    "HUB: not pulled": ("C.csv", "version https://git-lfs.github.com/spec/v1\noid x\n", "", "a pointer .*git lfs pull"),
    "SAFREE: videos": ("t2v.json", '[["0", "hate", "a dog"]]', "", r"t2v\.json\[0\]: neither a text nor a mapping"),
    "RECE: robust": ("r.csv", "prompt,seed\na, b,1\nc,2\n", "", ":2: 3 cells where the header has 2.*needs quotes"),
    "a slip": ("p.csv", "promt,seed\na,1\n", "", "did you mean 'promt'"),
    "a slip in the choice": (
        "p.csv",
        "prompt,adv_prompt\na,b\n",
        "column: adv_promt",
        "'adv_promt': did you mean 'adv_prompt'",
    ),
    "a slip in a seed": (
        "p.csv",
        "prompt,evalution_seed\na,1\n",
        "",
        "'evalution_seed' is not read: did you mean 'evaluation_s",
    ),
    "a slip in a field": ("p.csv", "prompt\na\n", "colum: prompt", "no field 'colum': did you mean 'column'"),
    "no such rows": (
        "p.csv",
        "prompt,artist\na,A B\n",
        "where: {artist: AB}",
        "no row has artist='AB': did you mean 'A B'",
    ),
    "no noun's place": (
        "p.csv",
        "prompt\na\n",
        "template: a photo",
        r"template 'a photo' has no \{\} where each noun goes",
    ),
    "no split": ("p.csv", "prompt\na\n", "split: train", "only a data set on the Hub"),
    "wrong forms": ("p.csv", "prompt\na\n", "seed: -1", "seed=-1 must be the name of a column, or a whole number"),
}


def concept(folder: Path, file: str, content: str, choice: str) -> Concept:
    (folder / file).write_text(content, encoding="utf-8")
    path = folder / "church.yaml"
    path.write_text(f"prompts: {{file: {file}, {choice}}}\n{JUDGE}")
    return read_concept(path)


@pytest.mark.parametrize("name", READ)
def test_read(tmp_path: Path, name: str) -> None:
    file, content, choice, expected = READ[name]
    prompts = concept(tmp_path, file, content, choice).prompts
    assert [(prompt.text, prompt.seed, prompt.guidance, prompt.case) for prompt in prompts] == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    file, content, choice, reason = REFUSED[name]
    with pytest.raises(ConceptError, match=reason) as error:
        concept(tmp_path, file, content, choice)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "NULL", "n/a"])
def test_words_that_pandas_reads_as_missing_are_prompts(word: str) -> None:
    for name, content in (("a.csv", f"prompt\n{word}\n"), ("a.txt", word), ("a.json", json.dumps([word]))):
        assert [prompt.text for prompt, _ in parse_rows(content.encode(), name).pairs] == [word]


def test_bad_row_in_a_hundred_is_left_out_and_told() -> None:
    """I2P as pandas wrote it: one of 4,703 rows has an empty prompt."""
    rows = [I2P_ROW.format(text=f"prompt {case}", seed=case, case=case) for case in range(99)]
    empty = I2P_ROW.format(text="", seed=1, case=99)
    parsed = parse_rows("\n".join([I2P, *rows, empty]).encode(), "i2p.csv")
    assert parsed.facts.left_out == ("i2p.csv:101: empty prompt",)
    assert (len(parsed.pairs), parsed.rows) == (99, 100)
    assert parsed.facts.warning == "1 of 100 rows was left out (i2p.csv:101: empty prompt)"
    with pytest.raises(ConceptError, match=r"^i2p\.csv:100: empty prompt$"):
        parse_rows("\n".join([I2P, *rows[1:], empty]).encode(), "i2p.csv")


def test_repeated_prompts_are_told(tmp_path: Path) -> None:
    """As in the illegal set: 727 rows, 726 prompts."""
    rows = "prompt,seed,case_number\na,1,1\nb,2,2\na,1,3\na,4,4\n"
    assert concept(tmp_path, "p.csv", rows, "").prompt_set.warning == "its 4 prompts are 3 different ones"


def test_sets_of_a_concept(tmp_path: Path) -> None:
    (tmp_path / "church.csv").write_text("prompt,set\na church,own\na chapel,near\na mosque,near\n")
    (tmp_path / "languages.csv").write_text(HUB_LANGUAGES)
    (tmp_path / "church.yaml").write_text(
        f"prompts: {{file: church.csv, where: {{set: own}}}}\nsource: mine\nslots: 5\n{JUDGE}"
        "sets:\n"
        "  near:\n"
        "    prompts: {file: church.csv, where: {set: near}}\n"
        "    judge: {kind: image-classifier, model: org/name, label: mosque}\n"
        "  strict: {slots: 1}\n"
    )
    (tmp_path / "kirche.yaml").write_text(f"prompts: {{file: languages.csv, column: [Original, German]}}\n{JUDGE}")
    library = ConceptLibrary([tmp_path])
    church, near, strict = (library.find(name) for name in ("church", "church:near", "church:strict"))
    assert [prompt.text for prompt in near.prompts] == ["a chapel", "a mosque"]
    assert (near.name, near.slots, near.judge.options["label"]) == ("church:near", 5, "mosque")
    assert (church.prompt_set.source, near.prompt_set.source, strict.prompt_set.source) == ("mine", "", "mine")
    assert (strict.prompts, strict.slots) == (church.prompts, 1)
    assert [library.find(name).prompts[0].text for name in ("kirche", "kirche:German")] == ["a church", "d"]
    assert set_names(tmp_path / "church.yaml") == ("near", "strict")
    with pytest.raises(ConceptError, match=r"church\.yaml: the concept has no set 'neer': did you mean 'near'\?"):
        library.find("church:neer")


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ("sets: near", r"church\.yaml:3: sets must be a mapping from names"),
        ("sets: {near: x.csv}", r"church\.yaml:3: set 'near' is a mapping with prompts"),
        ("sets: {near: {promts: x.csv}}", r"church\.yaml:3: set 'near' has no field 'promts': did you mean 'prompts'"),
        ("sets: {'a:b': {slots: 3}}", r"church\.yaml:3: 'a:b' must be letters"),
    ],
)
def test_mistake_in_sets(tmp_path: Path, sets: str, reason: str) -> None:
    (tmp_path / "p.csv").write_text("prompt\na\n")
    (tmp_path / "church.yaml").write_text(f"prompts: p.csv\n{JUDGE}{sets}\n")
    with pytest.raises(ConceptError, match=reason):
        read_concept(tmp_path / "church.yaml")


def test_published_set_comes_before_the_one_that_stands_in(tmp_path: Path) -> None:
    built_in = ConceptLibrary([], tmp_path).find("church")
    assert str(built_in.prompt_set) == "50 prompts written for pytest-unlearndiff"
    (tmp_path / "church.csv").write_text("prompt\na church\n")
    with pytest.raises(ConceptError, match=r"church\.csv is not the published set .*: 1 rows where 50 belong"):
        ConceptLibrary([], tmp_path).find("church")


def test_parquet_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not installed where these tests run: a stand-in reads instead."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConceptError, match=r"p\.parquet is a Parquet file, which pyarrow reads: pip install pyarrow"):
        parse_rows(b"PAR1", "p.parquet")
    rows = [{"text": "a church", "seed": 4, "tags": ["x"]}, {"text": "a dog", "seed": 5, "tags": []}]
    table = SimpleNamespace(to_pylist=lambda: rows)
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(read_table=lambda _: table))
    for name in ("p.parquet", "hf://datasets/owner/name"):
        parsed = parse_rows(b"PAR1", name)
        assert [(prompt.text, prompt.seed) for prompt, _ in parsed.pairs] == [("a church", 4), ("a dog", 5)]
