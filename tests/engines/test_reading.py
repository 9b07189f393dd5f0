"""Reading a job's events by offsets: every event once, in order, however little at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import JobId
from jupyter_aios.core.events import EventKind, encode
from jupyter_aios.engines.local.reading import read
from jupyter_aios.training.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

JOB = JobId("j1")
LINES = 40


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """Give the folder of an attempt whose two ranks have printed numbered lines."""
    folder = tmp_path / JOB / "attempts" / "1"
    folder.mkdir(parents=True)
    for rank in (0, 1):
        journal = Journal(folder / f"rank-{rank:04d}.output")
        for number in range(LINES):
            journal.append(EventKind.STDOUT, f"line {number} {'x' * number}\n".encode())
        journal.close()
    return folder


def collect(jobs: Path, cursor: dict[str, int], limit_bytes: int) -> dict[int | None, list[str]]:
    """Read until nothing comes; the cursor is changed in place, and travels as JSON each time."""
    found: dict[int | None, list[str]] = {}
    while True:
        batch = read(jobs, JOB, json.loads(json.dumps(cursor)), limit_bytes)
        cursor.update(batch.cursor)
        if not batch.events:
            return found
        for event in batch.events:
            found.setdefault(event.rank, []).append(event.text.split()[1])


@pytest.mark.parametrize("limit_bytes", [1, 64, 500, 10**6])
def test_every_event_comes_once_and_in_order_however_little_is_read_at_a_time(
    attempt: Path, limit_bytes: int
) -> None:
    expected = [str(number) for number in range(LINES)]
    jobs = attempt.parents[2]
    cursor: dict[str, int] = {}
    assert collect(jobs, cursor, limit_bytes) == {0: expected, 1: expected}
    assert collect(jobs, cursor, limit_bytes) == {}


def test_a_line_that_is_half_written_comes_when_it_is_whole(attempt: Path) -> None:
    jobs, path = attempt.parents[2], attempt / "rank-0001.output"
    cursor: dict[str, int] = {}
    collect(jobs, cursor, 10**6)
    frame = encode(EventKind.STDOUT, 1.0, b"line later\n")
    with path.open("ab") as file:
        file.write(frame[:-3])
    assert collect(jobs, cursor, 10**6) == {}
    with path.open("ab") as file:
        file.write(frame[-3:])
    assert collect(jobs, cursor, 10**6) == {1: ["later"]}


def test_a_damaged_file_is_told_once_and_hides_no_other(attempt: Path) -> None:
    path = attempt / "rank-0000.output"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    cursor: dict[str, int] = {}
    batch = read(attempt.parents[2], JOB, cursor, 10**6)
    kinds = [(event.rank, event.kind) for event in batch.events]
    assert kinds.count((1, EventKind.STDOUT)) == LINES
    assert kinds.count((0, EventKind.NOTICE)) == 1
    assert read(attempt.parents[2], JOB, batch.cursor, 10**6).events == ()


def test_a_stream_that_is_skipped_by_a_huge_offset_hides_no_other(attempt: Path) -> None:
    expected = [str(number) for number in range(LINES)]
    cursor = {"1/rank-0000.output": 2**62}
    assert collect(attempt.parents[2], cursor, 10**6) == {1: expected}
