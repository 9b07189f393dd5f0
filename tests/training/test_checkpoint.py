"""The choice of the checkpoint to go on from, and what a full disk leaves of one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training import checkpoint
from tests.limits import file_size_limit

if TYPE_CHECKING:
    from pathlib import Path


def leave(attempts: Path, attempt: int, step: int, ranks: int = 2) -> Path:
    """Write whole files of the first `ranks` ranks, as an attempt would."""
    folder = checkpoint.folder_of(attempts / str(attempt), step)
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        payload = f"state of {rank} after {step}".encode()
        content = checkpoint.MAGIC + hashlib.sha256(payload).digest() + payload
        checkpoint.rank_file(folder, rank).write_bytes(content)
    return folder


def newest_step(attempts: Path, before: int) -> int | None:
    found = checkpoint.newest(attempts, before, ranks=2)
    return None if found is None else found.step


def test_the_newest_step_of_an_earlier_attempt_is_taken(tmp_path: Path) -> None:
    assert newest_step(tmp_path, before=1) is None
    leave(tmp_path, 1, 9)
    leave(tmp_path, 1, 10)
    assert newest_step(tmp_path, before=1) is None
    assert newest_step(tmp_path, before=2) == 10


def test_a_later_attempt_counts_before_a_later_step(tmp_path: Path) -> None:
    # Attempt 1 was taken for dead, went on all the same, and came further.
    leave(tmp_path, 1, 90)
    leave(tmp_path, 2, 10)
    assert newest_step(tmp_path, before=3) == 10
    assert newest_step(tmp_path, before=2) == 90


@pytest.mark.parametrize("position", [0, len(checkpoint.MAGIC), -1])
def test_one_changed_byte_anywhere_makes_it_invalid(tmp_path: Path, position: int) -> None:
    leave(tmp_path, 1, 8)
    path = checkpoint.rank_file(leave(tmp_path, 1, 9), 1)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert newest_step(tmp_path, before=2) == 8


def test_one_that_a_rank_did_not_finish_is_passed_over(tmp_path: Path) -> None:
    leave(tmp_path, 1, 8)
    leave(tmp_path, 1, 9, ranks=1)
    assert newest_step(tmp_path, before=2) == 8


def test_an_older_one_goes_only_when_two_newer_ones_are_whole(tmp_path: Path) -> None:
    keeper = checkpoint.Keeper(tmp_path / "1", ranks=2)
    for step in (1, 2, 3):
        leave(tmp_path, 1, step)
        keeper.note(0, step)
    keeper.note(1, 1)
    keeper.note(1, 2)
    assert keeper.newest_complete == 2
    kept = sorted(folder.name for folder in (tmp_path / "1" / "checkpoints").iterdir())
    assert kept == ["step-00000001", "step-00000002", "step-00000003"]
    keeper.note(1, 3)
    kept = sorted(folder.name for folder in (tmp_path / "1" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000003"]


def test_one_that_the_disk_does_not_take_leaves_the_older_one_whole(tmp_path: Path) -> None:
    folder = checkpoint.folder_of(tmp_path / "1", 5)
    checkpoint.write(folder, 0, {"weights": list(range(100))})
    with file_size_limit(200), pytest.raises(OSError, match="File too large"):
        checkpoint.write(folder, 0, {"weights": [0] * 100})
    assert checkpoint.read(folder, 0) == {"weights": list(range(100))}
    assert [path.name for path in folder.iterdir()] == ["rank-0000.pt"]
