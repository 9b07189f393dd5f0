from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.core.events import MAX_PAYLOAD_BYTES, EventKind, Frame, decode, encode
from jupyter_aios.errors import StorageError

LENGTH_BYTES = 4
WHOLE = encode(EventKind.STDOUT, 1.0, b"whole")
HIT = encode(EventKind.STDOUT, 2.0, b"hit")


@settings(max_examples=50, deadline=None)
@given(payloads=st.lists(st.binary(max_size=100), max_size=5), base=st.integers(0, 10**6))
def test_frames_come_back_one_after_the_other(payloads: list[bytes], base: int) -> None:
    buffer = b"".join(encode(EventKind.STDOUT, 1.5, payload) for payload in payloads)
    frames = list(decode(buffer, base))
    assert [(frame.at, frame.kind, frame.payload) for frame in frames] == [
        (1.5, EventKind.STDOUT, payload) for payload in payloads
    ]
    ends = [base, *(frame.end for frame in frames)]
    assert [frame.offset for frame in frames] == ends[:-1]
    assert ends[-1] == base + len(buffer)


@pytest.mark.parametrize("position", range(LENGTH_BYTES, len(HIT)))
def test_a_flipped_bit_is_told_and_what_was_before_it_is_kept(position: int) -> None:
    hit = bytearray(HIT)
    hit[position] ^= 1
    kept: list[Frame] = []
    with pytest.raises(StorageError, match=f"damaged at byte {len(WHOLE)}"):
        kept.extend(decode(WHOLE + hit))
    assert [frame.payload for frame in kept] == [b"whole"]


@pytest.mark.parametrize("cut", range(1, len(HIT)))
def test_a_frame_that_is_not_yet_whole_is_left_for_the_next_read(cut: int) -> None:
    assert [frame.payload for frame in decode(WHOLE + HIT[:cut])] == [b"whole"]


def test_a_length_that_no_writer_writes_is_damage_and_not_waited_for() -> None:
    with pytest.raises(StorageError, match="damaged at byte 0"):
        list(decode(struct.pack("<I", MAX_PAYLOAD_BYTES + 1) + HIT[LENGTH_BYTES:]))
