"""Kills processes in the middle of commits and counts what was lost; run as a program of its own.

`python -m tests.vault.killing FOLDER KILLS SEED` prints one JSON object. It is a process without
threads because it forks: an interpreter started per kill would take most of the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jupyter_aios.vault import KeyFile, Vault
from jupyter_aios.vault.disk import DISK, Disk
from tests.vault.disks import UnsyncedDisk
from tests.vault.safes import ANN, new_vault, put, reopen

_ACK = struct.Struct(">Q")
MOST_ACKNOWLEDGED = 8
NAMES = 5


@dataclass
class Outcome:
    """What the kills did."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    unopened: int = 0
    halves: int = 0
    """How often a half-written file was found: the kill was inside a commit."""


def commit_for_ever(folder: Path, disk: Disk, first: int, acknowledge: int) -> None:
    """Write numbers into the vault, telling each one that is safe."""
    vault = reopen(folder, disk)
    number = first
    while True:
        put(vault, f"N{number % NAMES}", str(number))
        os.write(acknowledge, _ACK.pack(number))
        number += 1


def kill_one(folder: Path, disk: Disk, first: int, draw: random.Random) -> int:
    """Start a process that commits, kill it at some moment; return the last number it told."""
    receive, acknowledge = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(receive)
            commit_for_ever(folder, disk, first, acknowledge)
        finally:
            os._exit(1)
    os.close(acknowledge)
    last = first - 1
    for _ in range(draw.randrange(1, MOST_ACKNOWLEDGED)):
        last = _ACK.unpack(os.read(receive, _ACK.size))[0]
    # Some moment of the commit that follows; a sleep would be too coarse.
    until = time.perf_counter() + draw.random() * 0.002
    while time.perf_counter() < until:
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # What it told before it died is still in the pipe.
    while told := os.read(receive, _ACK.size):
        last = _ACK.unpack(told)[0]
    os.close(receive)
    return last


def kill_many(folder: Path, kills: int, seed: int, disk: Disk) -> Outcome:
    """Kill so many processes, one after the other, and look after each at what is there."""
    draw = random.Random(seed)
    outcome = Outcome()
    new_vault(folder).close()
    anchor = Vault.inspect(folder / "vault")
    number = 1
    for _ in range(kills):
        last = kill_one(folder, disk, number, draw)
        outcome.kills += 1
        outcome.acknowledged += last - number + 1
        outcome.halves += (folder / "vault.new").exists()
        try:
            vault = Vault.open(folder / "vault", KeyFile(folder / "key"), disk=disk)
        except Exception:  # noqa: BLE001 - whatever it is, it is counted
            outcome.unopened += 1
            break
        found = {int(vault.get(ANN, info.name).reveal()) for info in vault.list()}
        vault.close()
        newest = max(found, default=0)
        # One more than was told may be there: it was killed between the commit and its word.
        expected = set(range(max(1, newest - NAMES + 1), newest + 1))
        outcome.lost += newest not in {last, last + 1} or found != expected
        number = newest + 1
    assert Vault.inspect(folder / "vault").generation > anchor.generation
    return outcome


def main() -> None:
    """Kill as the command line says."""
    folder, kills, seed, is_synced = sys.argv[1:]
    disk = DISK if is_synced == "synced" else UnsyncedDisk()
    print(json.dumps(asdict(kill_many(Path(folder), int(kills), int(seed), disk))))  # noqa: T201


if __name__ == "__main__":
    main()
