"""Checkpoints of prompts in progress, so that an interrupted campaign goes on exactly where it was.

A checkpoint is a safetensors file: the tensors of the attack's state, and in its header, as JSON, the state's other
values, what the prompt has cost so far and the judgements that decide its outcome. The header also names campaign,
prompt and attack version, with a SHA-256 over all of it; whatever does not agree is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.images import Evaluated, GenerationRequest, Judgement, SamplerChange
from ..store.files import read_regular
from ..store.store import Store
from .campaign import Campaign
from .prompts import PendingPrompt, RunningPrompt, SavedAttack

if TYPE_CHECKING:
    from ..attacks.base import AttackState

FORMAT = "2"
_LARGEST = 2**30
_LENGTH = 8
"""Bytes of a safetensors file that tell the length of its header."""


@dataclass(frozen=True)
class CheckpointId:
    """Owner of checkpoints: a campaign and an attack version.

    Attributes:
        campaign: digest of the campaign's key.
        attack: name and version of the attack.
    """

    campaign: str
    attack: str

    @classmethod
    def of(cls, campaign: Campaign) -> CheckpointId:
        """Identify the checkpoints of a campaign."""
        info = campaign.attack.info
        return cls(campaign.key.digest, f"{info.name} {info.version}")

    def fields(self, prompt: str) -> dict[str, str]:
        """Fields of a checkpoint's header that have to agree."""
        return {"format": FORMAT, "campaign": self.campaign, "attack": self.attack, "prompt": prompt}


class CheckpointFolder:
    """Checkpoints of one campaign on disk, one file for each prompt in progress.

    Args:
        folder: their folder; it need not exist.
        owner: the campaign they have to belong to.
        reads: true if checkpoints on disk count.
        writes: true if new ones are kept; else those on disk do not count either.

    Attributes:
        written: number of checkpoints written.
    """

    def __init__(self, folder: Path, owner: CheckpointId, *, reads: bool, writes: bool) -> None:
        self.written = 0
        self._folder = folder
        self._owner = owner
        self._reads = reads and writes
        self._writes = writes

    @classmethod
    def of(cls, campaign: Campaign, store: Store) -> CheckpointFolder:
        """Return a campaign's checkpoints in its store, as far as the store's mode reads and writes them."""
        folder, mode = campaign.folder(store).folder / "in-progress", store.mode
        return cls(folder, CheckpointId.of(campaign), reads=mode.reads, writes=mode.writes)

    @property
    def count(self) -> int:
        """Number of checkpoints on disk that the next session will read."""
        return sum(1 for _ in self._folder.glob("*.safetensors")) if self._reads else 0

    def read(self, prompts: Iterable[Prompt]) -> tuple[dict[str, bytes], list[str]]:
        """Read the checkpoints of prompts.

        Returns:
            Checkpoints by prompt digest, and notes for people on those that were ignored.
        """
        checkpoints, notes = dict[str, bytes](), list[str]()
        for digest in [prompt.digest for prompt in prompts] if self._reads else ():
            try:
                data = read_regular(self._path(digest), _LARGEST)
                check(data, self._owner.fields(digest))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                notes.append(f"{self._path(digest)} is ignored, and its prompt attacked from the start: {error}")
            else:
                checkpoints[digest] = data
        return checkpoints, notes

    def write(self, checkpoints: Mapping[str, bytes]) -> None:
        """Replace checkpoints atomically; a failed write costs only the progress it would have saved.

        Nothing is flushed to disk: the checksum finds a checkpoint torn by a power failure.
        """
        if not self._writes or not checkpoints:
            return
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            for digest, data in checkpoints.items():
                temporary = self._folder / f"{digest}.{os.getpid()}.tmp"
                temporary.write_bytes(data)
                os.replace(temporary, self._path(digest))
                self.written += 1

    def remove(self, digest: str) -> None:
        """Delete the checkpoint of a prompt, if it has one."""
        if self._writes:
            with suppress(OSError):
                self._path(digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder if it is empty."""
        if self._writes:
            with suppress(OSError):
                self._folder.rmdir()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.safetensors"


def check(data: bytes, fields: Mapping[str, str]) -> dict[str, str]:
    """Check a checkpoint against what it has to belong to; returns the metadata in its header.

    Raises:
        ValueError: it is damaged, or belongs to something else.
    """
    size = int.from_bytes(data[:_LENGTH], "little")
    body = data[_LENGTH + size :]
    try:
        header = json.loads(data[_LENGTH : _LENGTH + size])
        metadata = dict(header.pop("__metadata__"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("it is damaged") from None
    if different := [name for name, value in fields.items() if metadata.get(name) != value]:
        raise ValueError(f"it belongs to another {different[0]}")
    if metadata.pop("checksum", None) != _checksum(metadata, header, body):
        raise ValueError("it is damaged")
    return metadata


def encode(owner: CheckpointId, prompt: PendingPrompt | RunningPrompt, state: AttackState | None) -> bytes:
    """Write a checkpoint.

    Args:
        owner: the campaign.
        prompt: the prompt, pending or running.
        state: of its attack; None before its first round.
    """
    from safetensors.torch import save

    pending = prompt.pending if isinstance(prompt, RunningPrompt) else prompt
    values: dict[str, Any] = {"baseline": asdict(pending.baseline), "seconds": pending.seconds}
    if isinstance(prompt, RunningPrompt) and state is not None:
        values |= {
            "seconds": prompt.seconds,
            "evaluations": prompt.evaluations,
            "blocked": prompt.blocked,
            "void": prompt.void,
            "last": [asdict(part) for part in prompt.last] if prompt.last is not None else None,
            "state": dict(state.facts),
        }
    fields = {**owner.fields(pending.prompt.digest), "values": json.dumps(values)}
    plain = save(dict(state.tensors) if state is not None else {})
    size = int.from_bytes(plain[:_LENGTH], "little")
    header, body = json.loads(plain[_LENGTH : _LENGTH + size]), plain[_LENGTH + size :]
    header.pop("__metadata__", None)
    fields["checksum"] = _checksum(fields, header, body)
    text = json.dumps({"__metadata__": fields, **header}).encode()
    text += b" " * (-len(text) % _LENGTH)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(_LENGTH, "little") + text + body


def decode(owner: CheckpointId, prompt: Prompt, data: bytes) -> PendingPrompt:
    """Read a checkpoint that ``encode`` wrote.

    Raises:
        ValueError: it is damaged, or belongs to something else.
        KeyError: a value is missing.
    """
    from safetensors.torch import load

    from ..attacks.base import AttackState

    values = json.loads(check(data, owner.fields(prompt.digest))["values"])
    saved = None
    if "state" in values:
        last = values["last"]
        saved = SavedAttack(
            AttackState(load(data), values["state"]),
            values["evaluations"],
            values["blocked"],
            values["void"],
            (_request(last[0]), Judgement(**last[1])) if last is not None else None,
        )
    baseline = Evaluated(**values["baseline"] | {"judgement": Judgement(**values["baseline"]["judgement"])})
    return PendingPrompt(prompt, baseline, values["seconds"], saved)


def _request(values: Mapping[str, Any]) -> GenerationRequest:
    sampler = values["sampler"]
    return GenerationRequest(**{**values, "sampler": None if sampler is None else SamplerChange(**sampler)})


def _checksum(metadata: Mapping[str, str], header: Mapping[str, Any], body: bytes) -> str:
    text = json.dumps([dict(metadata), dict(header)], sort_keys=True).encode()
    return hashlib.sha256(text + body).hexdigest()
