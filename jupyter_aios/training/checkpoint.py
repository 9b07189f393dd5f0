"""Checkpoints: files that are whole or absent, and the choice of the one to go on from.

A checkpoint is a folder `attempts/N/checkpoints/step-SSSSSSSS` with one file per rank. A file is
written aside, synced and renamed, and begins with the SHA-256 of what follows. A checkpoint is
valid when the files of all ranks are there and whole. Each attempt writes below its own folder,
so a late attempt cannot touch a newer one's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"aios-checkpoint-1\n"
KEPT = 2
"""How many complete checkpoints of an attempt stay."""


@dataclass(frozen=True)
class Checkpoint:
    """A valid checkpoint: the last step it contains, and its folder."""

    step: int
    folder: Path


def folder_of(attempt_folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return attempt_folder / "checkpoints" / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step that a checkpoint's folder is named after."""
    return int(folder.name.partition("-")[2])


def rank_file(folder: Path, rank: int) -> Path:
    """Return the file of one rank in a checkpoint's folder."""
    return folder / f"rank-{rank:04d}.pt"


def write(folder: Path, rank: int, state: dict[str, Any]) -> None:
    """Write one rank's file; it is whole, or it is not there.

    Raises:
        OSError: the disk did not take it; nothing is left of it.

    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = rank_file(folder, rank)
    temporary = target.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(MAGIC)
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _payload(path: Path) -> bytes | None:
    """Return the payload of a whole file, or None."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head, payload = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if not head.startswith(MAGIC) or head[len(MAGIC) :] != hashlib.sha256(payload).digest():
        return None
    return payload


def read(folder: Path, rank: int) -> dict[str, Any]:
    """Return one rank's state from a checkpoint that `newest` found valid."""
    import torch

    payload = _payload(rank_file(folder, rank))
    if payload is None:
        msg = f"the checkpoint {folder} has lost rank {rank}'s file"
        raise FileNotFoundError(msg)
    # Own files of the same person and job: their objects may be any Python value.
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=False)
    return state


def newest(attempts: Path, before: int, ranks: int) -> Checkpoint | None:
    """Return the newest valid checkpoint of the latest attempt before `before` that has one.

    The attempt counts before the step: what a late old attempt wrote is not newer.
    """
    for number in range(before - 1, 0, -1):
        folders = sorted((attempts / str(number) / "checkpoints").glob("step-*"), reverse=True)
        for folder in folders:
            if all(_payload(rank_file(folder, rank)) is not None for rank in range(ranks)):
                return Checkpoint(step_of(folder), folder)
    return None


class Keeper:
    """Watches an attempt's checkpoints become complete and removes the ones they replace."""

    def __init__(self, attempt_folder: Path, ranks: int) -> None:
        self.newest_complete: int | None = None
        self._attempt_folder = attempt_folder
        self._ranks = ranks
        self._written: dict[int, set[int]] = defaultdict(set)
        self._complete: list[int] = []

    def note(self, rank: int, step: int) -> None:
        """Take note that a rank has written its file of a step."""
        self._written[step].add(rank)
        if len(self._written[step]) < self._ranks or step in self._complete:
            return
        self._complete = sorted({*self._complete, step})
        self.newest_complete = self._complete[-1]
        self._complete = self._complete[-KEPT:]
        for old in [old for old in self._written if old < self._complete[0]]:
            del self._written[old]
            shutil.rmtree(folder_of(self._attempt_folder, old), ignore_errors=True)
