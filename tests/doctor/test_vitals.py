"""What a rank writes of itself is what its agent reads, whatever happens to the rank."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training.doctor import vitals
from jupyter_aios.training.doctor.vitals import NOBODY, Line, VitalsReader, VitalsWriter

if TYPE_CHECKING:
    from pathlib import Path

REDUCE = vitals.OPERATIONS.index("all_reduce")
BARRIER = vitals.OPERATIONS.index("barrier")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[VitalsWriter, VitalsReader]:
    path = tmp_path / vitals.vitals_name(3)
    return VitalsWriter(path), VitalsReader(path)


def test_a_call_is_current_until_it_is_left(pair: tuple[VitalsWriter, VitalsReader]) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0, 1, 700}))
    number = writer.enter(REDUCE, group, b"float32 [10]", writer.place("a.py", 5), NOBODY)
    writer.count_step(12, writer.place("b.py", 7))
    seen = reader.read()
    assert seen is not None
    assert seen.current is not None
    assert seen.current.members == {0, 1, 700}
    assert (seen.step, seen.current.operation, seen.current.number) == (12, "all_reduce", 1)
    assert (seen.current.what, seen.current.line) == ("float32 [10]", Line("a.py", 5))
    writer.leave(number)
    seen = reader.read()
    assert seen is not None
    assert seen.current is None
    assert [call.number for call in seen.entered] == [1]


def test_a_step_has_its_line_and_is_newest_until_the_next_call(
    pair: tuple[VitalsWriter, VitalsReader],
) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    writer.leave(writer.enter(REDUCE, group, b"", 0, NOBODY))
    writer.count_step(7, writer.place("a.py", 9))
    seen = reader.read()
    assert seen is not None
    assert (seen.stepped, seen.has_stepped_since) == (Line("a.py", 9), True)
    writer.enter(REDUCE, group, b"", 0, NOBODY)
    seen = reader.read()
    assert seen is not None
    assert not seen.has_stepped_since


def test_every_movement_changes_the_mark(pair: tuple[VitalsWriter, VitalsReader]) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    marks = [reader.mark()]
    writer.count_step(1, 0)
    marks.append(reader.mark())
    number = writer.enter(REDUCE, group, b"", 0, NOBODY)
    marks.append(reader.mark())
    writer.leave(number)
    marks.append(reader.mark())
    assert len(set(marks)) == len(marks)


def test_a_call_that_raised_stays_and_says_so(pair: tuple[VitalsWriter, VitalsReader]) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    writer.leave_raised(writer.enter(REDUCE, group, b"", 0, NOBODY))
    seen = reader.read()
    assert seen is not None
    assert seen.current is not None
    assert seen.has_raised


def test_a_wait_is_for_the_call_before(pair: tuple[VitalsWriter, VitalsReader]) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    writer.leave(writer.enter(REDUCE, group, b"", writer.place("a.py", 5), NOBODY))
    writer.wait(REDUCE, group, b"", writer.place("a.py", 9), NOBODY)
    seen = reader.read()
    assert seen is not None
    assert seen.current is not None
    assert (seen.current.number, seen.current.line.number) == (1, 9)


def test_the_history_keeps_the_newest_in_their_order(
    pair: tuple[VitalsWriter, VitalsReader],
) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    for line in range(1, 2 * vitals.HISTORY):
        place = writer.place("a.py", line)
        writer.leave(writer.enter(BARRIER if line % 2 else REDUCE, group, b"", place, NOBODY))
    seen = reader.read()
    assert seen is not None
    lines = [line.number for _, line in seen.history]
    assert lines == list(range(vitals.HISTORY, 2 * vitals.HISTORY))
    assert seen.history[-1][0] == "barrier"


def test_a_half_written_entry_is_none(pair: tuple[VitalsWriter, VitalsReader]) -> None:
    writer, reader = pair
    group = writer.add_group("0", frozenset({0}))
    writer.leave(writer.enter(REDUCE, group, b"", 0, NOBODY))
    # As if the rank had been stopped in the middle of its next entry: its end is the old one's.
    at = vitals._GROUPS_AT + vitals._ENTRY_AT  # noqa: SLF001 - the format is what is tested
    struct.pack_into("<Q", writer._map, at, 2)  # noqa: SLF001
    seen = reader.read()
    assert seen is not None
    assert seen.entered == ()


def test_more_groups_and_files_than_there_is_room_for_are_left_out(
    pair: tuple[VitalsWriter, VitalsReader],
) -> None:
    writer, reader = pair
    groups = [writer.add_group(str(number), frozenset({0})) for number in range(40)]
    assert groups[vitals.MAX_GROUPS :] == [NOBODY] * (40 - vitals.MAX_GROUPS)
    for number in range(100):
        writer.leave(writer.enter(REDUCE, 0, b"", writer.place(f"{number}.py", 1), NOBODY))
    seen = reader.read()
    assert seen is not None
    assert seen.history[-1][1] == Line()


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    reader = VitalsReader(tmp_path / "none")
    assert reader.mark() == ()
    assert reader.read() is None


def test_a_full_disk_is_told_at_once_and_not_by_a_signal_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(OSError, match="no space"):
        VitalsWriter(tmp_path / "vitals")
