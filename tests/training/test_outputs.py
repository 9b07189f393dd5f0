from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.events import output_stream
from jupyter_aios.core.redaction import Redaction
from jupyter_aios.core.secrets import Secret
from jupyter_aios.training.journal import JournalReader
from jupyter_aios.training.outputs import Outputs

if TYPE_CHECKING:
    from pathlib import Path

TAIL_BYTES = 2**16


def shown(folder: Path) -> str:
    frames = JournalReader(folder / output_stream(0)).read()
    return b"".join(frame.payload for frame in frames).decode()


@pytest.mark.parametrize("size", [100, 50_001, 2**17])
def test_of_an_output_beyond_its_limit_64_kib_are_kept_whatever_its_pieces(
    tmp_path: Path, size: int
) -> None:
    told: list[str] = []
    outputs = Outputs(tmp_path, 1000, told.append)
    out, err = outputs.open_pipes(0)
    os.write(out, b"begin\n")
    outputs.pump(1.0)
    text = "漢" * 90_000
    data = text.encode()
    for at in range(0, len(data), size):
        os.write(out, data[at : at + size])
        outputs.pump(1.0)
    for end in (out, err):
        os.close(end)
    outputs.drain()
    whole = shown(tmp_path)
    kept = whole.removeprefix("begin\n")
    assert whole != kept
    assert set(kept) == {"漢"}
    # Pieces that fitted under the limit stand before it.
    assert TAIL_BYTES - 3 <= len(kept.encode()) <= TAIL_BYTES + 1000
    assert len(told) == 2


def test_when_a_rank_settles_its_output_has_all_that_it_has_written(tmp_path: Path) -> None:
    redaction = Redaction([("TOKEN", Secret("hf_Qx7tLw29"))])
    outputs = Outputs(tmp_path, 10**6, print, redaction)
    out, err = outputs.open_pipes(0)
    os.write(out, b"hf_Qx7tLw29 hf_")
    os.write(err, "half of ü: ".encode() + "ü".encode()[:1])
    assert outputs.settle(0) == (tmp_path / output_stream(0)).stat().st_size
    assert shown(tmp_path) == "•••TOKEN••• hf_half of ü: "
    os.write(err, "ü".encode()[1:])
    for end in (out, err):
        os.close(end)
    outputs.drain()
    assert shown(tmp_path) == "•••TOKEN••• hf_half of ü: ü"
