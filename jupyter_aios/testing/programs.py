"""What the engine contract runs: programs as text, and what must be seen of each.

A real engine runs `source`. A fake cannot run Python: `testing.scripts` tells it, by the
program's name, what a real one would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_aios.core.entities import SecretUse

ORIGIN = "Cell In[7]"
"""What a traceback calls the file of every program here."""

ENVIRONMENT_MARK = "ENVIRONMENT "
ANSWER = {"answer": 42, "word": "schön"}
TOUR_LINES = 300


@dataclass(frozen=True)
class Program:
    """Code that all ranks of a job run, and how many they are."""

    name: str
    source: str
    nodes: int = 1
    ranks_per_node: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its JobSpec that are not the usual ones."""


def tour_text(rank: int) -> str:
    """Return what `rank` of TOUR prints."""
    return "".join(
        f"rank {rank} line {number} ✓ naïve 漢字 {'x' * (number % 7)}\n"
        for number in range(TOUR_LINES)
    )


TOUR = Program(
    name="tour",
    nodes=2,
    ranks_per_node=2,
    spec={"pull": ("answer", "nothing")},
    # Not flushed: what a program leaves in its buffer must arrive all the same.
    source=f"""\
import json, os, sys
rank = int(os.environ["RANK"])
for number in range({TOUR_LINES}):
    print(f"rank {{rank}} line {{number}} ✓ naïve 漢字 {{'x' * (number % 7)}}")
print({ENVIRONMENT_MARK!r} + json.dumps(dict(os.environ)), file=sys.stderr)
answer = {ANSWER!r}
if rank % 2:
    sys.exit(0)
""",
)

EXITS_WITH_THREE = Program(name="exits-with-three", source="import sys\nsys.exit(3)\n")

RAISES = Program(
    name="raises",
    ranks_per_node=3,
    source="""\
import os, time
print("ready", flush=True)
if os.environ["RANK"] == "1":
    raise ValueError("no such luck: naïve")
while True:
    time.sleep(0.05)
""",
)

KILLED = Program(
    name="killed",
    ranks_per_node=2,
    source="""\
import os, signal, time
print("ready", flush=True)
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    time.sleep(0.05)
""",
)

PATIENT = Program(
    name="patient",
    ranks_per_node=2,
    source="""\
import time
print("ready", flush=True)
while True:
    time.sleep(0.05)
""",
)

STUBBORN = Program(
    name="stubborn",
    source="""\
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(0.05)
""",
)

BRIEF = Program(name="brief", source='print("done")\n')

TELLS = Program(
    name="tells",
    spec={"secrets": (SecretUse("TOKEN"), SecretUse("KEY", variable="THE_KEY"))},
    source="""\
import hashlib, os
import jupyter_aios as aios
for value in (aios.secret("TOKEN"), aios.secret("KEY"), os.environ["THE_KEY"]):
    print(hashlib.sha256(value.encode()).hexdigest())
print("the token is " + aios.secret("TOKEN"))
print(sorted(name for name, value in os.environ.items() if value == aios.secret("TOKEN")))
raise ValueError("not with " + aios.secret("KEY"))
""",
)
"""What it knows of its secrets it tells by their hashes; it also says them."""

KEPT = Program(
    name="kept",
    ranks_per_node=2,
    spec={"keep_idle_s": 3.0},
    source="answer = 42\n",
)
KEPT_CELL = "answer += 1\n"
"""What the contract runs in the ranks of KEPT; it pulls `answer`."""
KEPT_LOOP = """\
import time
while True:
    time.sleep(0.01)
"""

PROGRAMS = (TOUR, EXITS_WITH_THREE, RAISES, KILLED, PATIENT, STUBBORN, BRIEF, TELLS, KEPT)
