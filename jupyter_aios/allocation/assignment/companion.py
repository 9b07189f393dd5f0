"""A second process that searches the same problem with another seed: the other core's work.

It is started as a module of its own, not forked and not by multiprocessing, so that notebooks and
scripts without a main guard can use it; it gets one JSON line with the problem, and both sides send
a line for each better assignment. It is killed when the time is over, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.assignment.problem import Instance, Ints
from jupyter_aios.allocation.children import start

if TYPE_CHECKING:
    from collections.abc import Iterator


MODULE = "jupyter_aios.allocation.assignment"
"""Its `__main__` is the second process."""


@dataclass(frozen=True, eq=False)
class News:
    """What the other side found."""

    assignment: Ints
    rung: str
    is_settled: bool
    """Whether nothing is cheaper."""
    is_infeasible: bool = False
    """Whether there is no assignment at all."""


class Line:
    """One end of the conversation; a thread listens, so that nobody waits for the other."""

    def __init__(self, incoming: IO[str], outgoing: IO[str]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._heard: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.has_ended = threading.Event()
        self.has_settled = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(
        self, assignment: Ints, rung: str, *, is_settled: bool, is_infeasible: bool = False
    ) -> None:
        """Send; where the other side has gone, do nothing."""
        said = {
            "assignment": assignment.tolist(),
            "rung": rung,
            "is_settled": is_settled,
            "is_infeasible": is_infeasible,
        }
        with contextlib.suppress(OSError, ValueError):
            self._outgoing.write(json.dumps(said) + "\n")
            self._outgoing.flush()

    def news(self) -> Iterator[News]:
        """Yield what has come since the last time."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._heard.get_nowait()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._incoming:
                # What a solver prints lands in the same stream.
                if line.startswith("{"):
                    said = json.loads(line)
                    said["assignment"] = np.array(said["assignment"], np.int64)
                    self._heard.put(News(**said))
                    if said["is_settled"]:
                        self.has_settled.set()
        self.has_ended.set()


class Companion:
    """The parent's end: starts the process, hears its news, and kills it."""

    def __init__(self, instance: Instance, *, time_s: float, seed: int) -> None:
        self._process = start(MODULE, stderr=subprocess.DEVNULL, text=True)
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")  # Popen promises them
        problem = {
            "costs": instance.costs.tolist(),
            "demands": instance.demands.tolist(),
            "capacities": instance.capacities.tolist(),
            "time_s": time_s,
            "seed": seed,
        }
        self.line: Line | None = None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        # The pipe holds less than a large problem: the process reads it when it has started.
        self._first = threading.Thread(target=self._begin, args=(json.dumps(problem),), daemon=True)
        self._first.start()

    def _begin(self, problem: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stdin.write(problem + "\n")
            self._stdin.flush()
        self.line = Line(self._stdout, self._stdin)

    def tell(self, assignment: Ints, rung: str) -> None:
        """Send a better assignment, unless the process is still starting."""
        if self.line is not None:
            self.line.tell(assignment, rung, is_settled=False)

    def news(self) -> Iterator[News]:
        """Yield what has come since the last time."""
        if self.line is not None:
            yield from self.line.news()

    @property
    def has_settled(self) -> bool:
        """Whether it has shown that nothing is cheaper than what it last told."""
        return self.line is not None and self.line.has_settled.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has shown that nothing is cheaper; say whether it has."""
        self._first.join(timeout_s)
        return self.line is not None and self.line.has_settled.wait(timeout_s)

    def close(self) -> None:
        """Kill the process and wait for it; harmless twice."""
        self._process.kill()
        self._process.wait()
        self._first.join()
        if self.line is not None:
            self.line.has_ended.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
