"""No file that is not byte for byte what was committed is ever taken for a vault."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.errors import AiosError, StorageError, VersionError
from jupyter_aios.vault import Vault
from jupyter_aios.vault.format import HEAD_BYTES, parse
from jupyter_aios.vault.generation import unlock
from tests.vault.disks import UnsyncedDisk
from tests.vault.safes import BEN, key_file, new_vault, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def history(tmp_path: Path) -> tuple[list[bytes], bytes]:
    """Give three generations of one vault, and its root key: derived once, for all mutants.

    A mutant that opens by a slot opens by the root key too, since the same seal is checked: asking
    with the root key is asking for more.
    """
    vault = new_vault(tmp_path, UnsyncedDisk())
    files = []
    for number in range(3):
        put(vault, f"TOKEN{number}", f"value {number}")
        put(vault, "OTHER", "x" * 300, BEN)
        files.append((tmp_path / "vault").read_bytes())
    state = vault._state  # noqa: SLF001 - the one way to the root key
    assert state is not None
    vault.close()
    return files, state.root


def flip_bit(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def flip_bits(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    for _unused in range(draw.randrange(2, 9)):
        flip_bit(draw, data, b"")
    return data


def set_byte(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    # Where values are checked before the seal, extremes matter.
    data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
    return data


def change_head(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    at = draw.randrange(HEAD_BYTES)
    data[at] = draw.randrange(256)
    return data


def swap_bytes(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    one, two = draw.randrange(len(data)), draw.randrange(len(data))
    data[one], data[two] = data[two], data[one]
    return data


def swap_blocks(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    size = draw.choice([8, 16, 32, 256, 304])
    one, two = sorted(draw.sample(range(0, len(data) - size, 1), 2))
    if two - one < size:
        return bytearray()
    first, second = data[one : one + size], data[two : two + size]
    data[one : one + size], data[two : two + size] = second, first
    return data


def truncate(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    return data[: draw.randrange(len(data))]


def truncate_front(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    return data[draw.randrange(1, len(data)) :]


def extend(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    return data + draw.randbytes(draw.randrange(1, 64))


def drop_block(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice([1, 16, 32, 141, 304])]
    return data


def repeat_block(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    at, size = draw.randrange(len(data)), draw.choice([1, 16, 32, 141, 304])
    return data[: at + size] + data[at:]


def zero_block(draw: random.Random, data: bytearray, _: bytes) -> bytearray:
    at = draw.randrange(len(data))
    size = min(draw.choice([1, 8, 32, 512]), len(data) - at)
    data[at : at + size] = bytes(size)
    return data


def splice(draw: random.Random, data: bytearray, other: bytes) -> bytearray:
    at = draw.randrange(1, len(data))
    return data[:at] + other[at:]


def transplant(draw: random.Random, data: bytearray, other: bytes) -> bytearray:
    at = draw.randrange(len(data))
    size = draw.randrange(1, 400)
    return data[:at] + other[at : at + size] + data[at + size :]


def keep_seal(draw: random.Random, data: bytearray, other: bytes) -> bytearray:
    return (
        (data[:-32] + other[-32:]) if draw.random() < 0.5 else bytearray(other[:-32] + data[-32:])
    )


KINDS: list[Callable[[random.Random, bytearray, bytes], bytearray]] = [
    flip_bit, flip_bits, set_byte, change_head, swap_bytes, swap_blocks, truncate, truncate_front,
    extend, drop_block, repeat_block, zero_block, splice, transplant, keep_seal,
]  # fmt: skip


def accepted_of(files: list[bytes], root: bytes, count: int, seed: int) -> Counter[str]:
    """Return how many mutants of each kind were taken, and under "tried" how many there were."""
    draw = random.Random(seed)
    originals = set(files)
    found: Counter[str] = Counter()
    while found["tried"] < count:
        kind = draw.choice(KINDS)
        mutant = bytes(kind(draw, bytearray(draw.choice(files)), draw.choice(files)))
        if mutant in originals:
            continue
        found["tried"] += 1
        try:
            unlock(mutant, parse(mutant), root)
        except (StorageError, VersionError):
            continue
        found[kind.__name__] += 1
    return found


def test_of_100_000_mutants_none_is_taken(history: tuple[list[bytes], bytes]) -> None:
    files, root = history
    for data in files:
        unlock(data, parse(data), root)
    assert accepted_of(files, root, 100_000, seed=1) == Counter(tried=100_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_of_100_000_more_mutants_none_is_taken(
    seed: int, history: tuple[list[bytes], bytes]
) -> None:
    files, root = history
    assert accepted_of(files, root, 100_000, seed=2 + seed) == Counter(tried=100_000)


def test_no_byte_of_the_file_is_free(history: tuple[list[bytes], bytes]) -> None:
    (*_, data), root = history
    for at in range(len(data)):
        mutant = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        with pytest.raises((StorageError, VersionError)):
            unlock(mutant, parse(mutant), root)


def test_mutants_are_refused_by_the_file_too(
    history: tuple[list[bytes], bytes], tmp_path: Path
) -> None:
    files, _ = history
    draw = random.Random(3)
    disk = UnsyncedDisk()
    for _unused in range(500):
        kind = draw.choice(KINDS)
        mutant = bytes(kind(draw, bytearray(draw.choice(files)), draw.choice(files)))
        if mutant in files:
            continue
        (tmp_path / "vault").write_bytes(mutant)
        with pytest.raises(AiosError) as caught:
            Vault.open(tmp_path / "vault", key_file(tmp_path), disk=disk).close()
        assert caught.value.hint
