"""The stacks that faulthandler wrote: which thread is where, and what a main thread waits for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.vitals import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_THREAD = re.compile(r"^(Current thread|Thread) 0x[0-9a-f]+", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_MONITORS = (
    "/tqdm/_monitor.py", "/torch/utils/data/_utils/pin_memory.py",
    "/tensorboard/summary/writer/event_file_writer.py", "/wandb/", "/site-packages/mlflow/",
    "/tensorboardX/event_file_writer.py",
)  # fmt: skip
"""Where the side threads of libraries wait that only watch or write."""


@dataclass(frozen=True)
class Frame:
    """One call on a stack."""

    file: str
    line: int
    function: str


Stack = tuple[Frame, ...]
"""Innermost first."""


@dataclass(frozen=True)
class Dump:
    """What one process wrote at one signal."""

    main: Stack
    others: tuple[Stack, ...] = ()
    text: str = ""

    @property
    def monitors(self) -> int:
        """How many side threads are known to be only watchers."""
        return sum(any(m in frame.file for m in _MONITORS for frame in s) for s in self.others)


class Spot(Enum):
    """What a main thread that waits is waiting for."""

    EXCHANGE = "exchange"
    """Another rank, in a call that the vitals do not know: DDP's gradients, torch's own calls."""
    LOADER = "loader"
    IDLE_WORKER = "idle worker"
    LOCK = "lock"


def parse(text: str) -> Dump | None:
    """Return the last dump of `text`, or None where there is no whole one."""
    found: list[tuple[bool, Stack]] = []
    heads = list(_THREAD.finditer(text))
    ends = [following.start() for following in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends, strict=False):
        frames = tuple(
            Frame(_unescaped(file), int(line), function)
            for file, line, function in _FRAME.findall(text, head.end(), end)
        )
        found.append((head[1] != "Thread", frames))
    current = [stack for is_current, stack in found if is_current]
    if not current or not current[-1] or not text.endswith("\n"):
        return None
    return Dump(current[-1], tuple(stack for is_current, stack in found if not is_current), text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), text)


def spot(stack: Stack) -> Spot:
    """Return what a main thread waits for, given that it waits."""
    innermost = stack[0]
    if any(f.function == "_try_get_data" and f.file.endswith("/dataloader.py") for f in stack):
        return Spot.LOADER
    torch_frames = [f for f in stack if "/torch/" in f.file]
    if torch_frames and torch_frames[0].function == "_worker_loop":
        return Spot.IDLE_WORKER
    is_exchange = (
        innermost.function == "_engine_run_backward"
        or "/torch/distributed/" in innermost.file
        or innermost.file.endswith("/torch/nn/parallel/distributed.py")
        or innermost.file.endswith("/training/doctor/collectives.py")
    )
    return Spot.EXCHANGE if is_exchange else Spot.LOCK


def person_line(stack: Sequence[Frame], is_person: Callable[[str], bool]) -> Line:
    """Return the innermost line that the person wrote, else the innermost one."""
    for frame in stack:
        if is_person(frame.file):
            return Line(frame.file, frame.line)
    return Line(stack[0].file, stack[0].line) if stack else Line()


def doing(stack: Sequence[Frame], is_person: Callable[[str], bool]) -> str:
    """Return which library function the person's line called and waits in, e.g. `Queue.get`."""
    called = ""
    for frame in stack:
        if is_person(frame.file):
            break
        called = frame.function
    return called
