"""The program of a curious student: it logs in by a key that it was lent, and looks for it.

Run as a job: looking.py FOLDER HOME PID…, of the home and of the processes that it could not find
by itself. In FOLDER lies `login.json`, how to log in; there, too, all that could be read is left,
for whoever knows what to look for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO


def log_in(folder: Path, said: str) -> None:
    """Log in by what `SSH_AUTH_SOCK` leads to, and tell how that went."""
    line = json.loads((folder / "login.json").read_text())
    done = subprocess.run([*line, f"echo {said}"], capture_output=True, text=True, check=False)
    print(f"login {said}: {done.returncode} {done.stdout.strip()}", flush=True)  # noqa: T201


def memory_of(pid: int | str, target: Path) -> bool:
    """Write what a process has in its memory and no file has; return whether it may be read."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, target.open("wb") as file:
            for line in maps:
                place, access, *_ = line.split()
                if "r" in access and ("w" in access or "/" not in line):
                    begin, end = (int(text, 16) for text in place.split("-"))
                    copy_pages(memory, file, begin, end)
    except OSError:
        return False
    return True


def copy_pages(memory: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    """Copy a range of memory, as far as it can be read; not what nobody has written to."""
    for at in range(begin, end, 2**22):
        # The kernel's own pages have no such place, or are nobody's to read.
        with contextlib.suppress(OSError, OverflowError):
            memory.seek(at)
            piece = memory.read(min(2**22, end - at))
            if piece.strip(b"\0"):
                target.write(piece)


def read_into(source: Path, target: Path) -> bool:
    """Copy what one file holds; return whether it may be read."""
    try:
        target.write_bytes(source.read_bytes())
    except OSError:
        return False
    return True


def open_files(pid: int | str, folder: Path) -> None:
    """Copy what the descriptors of a process lead to: files, and memory without a name."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if not link.is_file():
                    continue
                shutil.copyfileobj(link.open("rb"), (folder / f"fd-{link.name}").open("wb"))


def parents() -> list[int]:
    """Return the processes above this one, the nearest first."""
    found, pid = [], os.getppid()
    while pid > 1:
        found.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def relatives(home: Path) -> list[int]:
    """Return the processes that were started for the home, as far as that can be read."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(home).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def look(folder: Path, home: Path, others: list[int]) -> None:
    """Read all that can be read into the folder, of these processes too."""
    shutil.copytree(home, folder / "home", ignore=shutil.ignore_patterns("*.sock"))
    (folder / "variables").write_text(json.dumps(dict(os.environ)))
    seen = {}
    for pid in dict.fromkeys([os.getpid(), *parents(), *relatives(home), *others]):
        place = folder / f"process-{pid}"
        place.mkdir()
        told = {name: read_into(Path(f"/proc/{pid}/{name}"), place / name) for name in
                ("environ", "cmdline")}  # fmt: skip
        told["memory"] = memory_of(pid, place / "memory")
        open_files(pid, place)
        seen[str(pid)] = told
    account = {"me": os.getpid(), "parents": parents(), "seen": seen}
    (folder / "seen.json").write_text(json.dumps(account))


def main() -> None:
    """Log in, look around, and log in again when told to."""
    folder, home, *others = sys.argv[1:]
    log_in(Path(folder), "first")
    look(Path(folder), Path(home), [*map(int, others)])
    log_in(Path(folder), "second")
    print("looked", flush=True)  # noqa: T201
    while not Path(folder, "again").exists():
        time.sleep(0.02)
    log_in(Path(folder), "third")


main()
