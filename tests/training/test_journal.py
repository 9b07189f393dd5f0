"""Event files and claims: whole or absent, whoever races and however full the disk is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.events import EventKind
from jupyter_aios.training.journal import Journal, JournalReader, claim, read_json
from tests.limits import file_size_limit

if TYPE_CHECKING:
    from pathlib import Path


def test_of_eight_who_claim_one_gets_it_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    start = Barrier(8)

    def race(number: int) -> bool:
        start.wait(timeout=30)
        return claim(path, {"number": number})

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(race, range(8)))
    assert won.count(True) == 1
    assert read_json(path) == {"number": won.index(True)}
    assert not claim(path, {"number": 9})
    assert read_json(path) == {"number": won.index(True)}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_full_disk_took_of_a_frame_is_cut_off_again(tmp_path: Path) -> None:
    path = tmp_path / "rank-0000.output"
    journal = Journal(path)
    journal.append(EventKind.STDOUT, b"before")
    size = journal.size
    with file_size_limit(size + 30):
        with pytest.raises(OSError, match="File too large"):
            journal.append(EventKind.STDOUT, b"x" * 100)
        assert not journal.record(EventKind.NOTICE, text="y" * 100)
    assert path.stat().st_size == journal.size == size
    journal.append(EventKind.STDOUT, b"after")
    journal.close()
    assert [frame.payload for frame in JournalReader(path).read()] == [b"before", b"after"]


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rank-0000.events"
    reader = JournalReader(path)
    assert list(reader.read()) == []
    journal = Journal(path)
    seen = []
    for number in range(5):
        journal.record(EventKind.STEP, step=number)
        seen += [frame.json()["step"] for frame in reader.read()]
    journal.close()
    assert seen == [0, 1, 2, 3, 4]
    assert list(reader.read()) == []
