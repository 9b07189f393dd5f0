"""The search that the other tests of this room rely on finds what is there, and only that."""

from __future__ import annotations

import base64
import os
import random
from typing import TYPE_CHECKING

from tests.safe.needles import Needles, ways

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

VALUES = {f"N{i}": os.urandom(12).hex().encode() for i in range(500)}


def test_every_way_of_every_value_is_found_wherever_it_stands() -> None:
    needles = Needles(VALUES)
    draw = random.Random(7)
    for name, value in VALUES.items():
        around = draw.randbytes(draw.randrange(40)), draw.randbytes(draw.randrange(3))
        for way in ways(value):
            assert needles.in_bytes(way.join(around)) == {name}
        encoded = base64.b64encode(b"ada:" + value + b"\n")
        assert needles.in_bytes(encoded) == {name}


def test_all_are_found_in_one_look_and_nothing_where_nothing_is() -> None:
    needles = Needles(VALUES)
    noise = os.urandom(2**20)
    assert needles.in_bytes(noise) == set()
    assert needles.in_bytes(b"") == needles.in_bytes(b"short") == set()
    assert needles.in_bytes(b" ".join([noise, *VALUES.values()])) == set(VALUES)
    cut = [value[:-1] for value in VALUES.values()]
    assert needles.in_bytes(b" ".join(cut)) == set()


def test_a_value_on_the_border_of_two_pieces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.safe.needles._PIECE_BYTES", 64)
    needles = Needles({"A": b"0123456789abcdef"})
    for before in range(200):
        assert needles.in_bytes(bytes(before) + b"0123456789abcdef" + bytes(3)) == {"A"}


def test_files_and_processes_are_looked_into(tmp_path: Path) -> None:
    needles = Needles({"A": b"0123456789abcdef"})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x0123456789abcdefx")
    (tmp_path / "other").write_bytes(b"x0123456789abcdexf")
    assert needles.in_files(tmp_path) == {str(tmp_path / "deep" / "file"): {"A"}}
    assert needles.in_processes([os.getpid()]) == {}
    path = f"{os.environ['PATH']}".encode()
    shown = Needles({"PATH": path}).in_processes([os.getpid()])
    assert shown[f"environ of {os.getpid()}"] == {"PATH"}
