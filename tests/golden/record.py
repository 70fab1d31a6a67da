"""Record ``outcomes.json`` again: ``python tests/golden/record.py [ATTACK ...]``, from the project's folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EMOJI = ROOT / "examples" / "emoji"
OUTCOMES = Path(__file__).with_name("outcomes.json")


def main(attacks: list[str]) -> None:
    """Attack again, with the options that each attack's entry names, and replace its prompts."""
    recorded = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    for attack in attacks or list(recorded):
        recorded[attack]["prompts"] = attacked_prompts(recorded[attack])
        OUTCOMES.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
        print(f"{attack}: {len(recorded[attack]['prompts'])} prompts")


def attacked_prompts(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the prompts of the JSON report of a session that attacks everything anew, without the store."""
    cases = ",".join(str(prompt["case"]) for prompt in entry["prompts"])
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pytest", "-q", f"--rootdir={folder}", "--pyargs", "pytest_unlearndiff.suite"),
            f"--unlearndiff-model={EMOJI / 'erased' / 'uce-fish.safetensors'}",
            f"--unlearndiff-base={EMOJI / 'model'}",
            f"--unlearndiff-concepts={EMOJI / 'concepts'}",
            *("--unlearndiff-concept=fish", "--unlearndiff-exhaustive", "--unlearndiff-cache=off"),
            *("--unlearndiff-report=json:report.json", f"--unlearndiff-case-numbers={cases}", *entry["options"]),
        ]
        subprocess.run(command, cwd=folder, check=True)
        [gate] = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))["gates"]
    return [{fact: prompt[fact] for fact in entry["prompts"][0]} for prompt in gate["prompts"]]


if __name__ == "__main__":
    main(sys.argv[1:])
