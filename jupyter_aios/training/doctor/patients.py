"""One rank under observation: what it wrote, what the kernel says, what its stacks were."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor import stacks
from jupyter_aios.training.doctor.hope import HOPE, Outlook, Pulse, outlook
from jupyter_aios.training.doctor.rank import STACK_SIGNAL
from jupyter_aios.training.doctor.signs import Process, Wait, main_state, read_process, read_tree
from jupyter_aios.training.doctor.standings import Condition, Standing, Waiting, Worker
from jupyter_aios.training.doctor.vitals import Line, Vitals, VitalsReader
from jupyter_aios.training.processes import ProcessIdentity, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.training.doctor.places import Places

_MOST_SUSPECTS = 4
_RUNNING_TICKS = 10
_RECENT_S = 3.0
_MOST_TAIL_BYTES = 2**17


@dataclass
class Patient:
    """One rank as the doctor sees it."""

    rank: int
    reader: VitalsReader
    stack_file: Path
    identity: ProcessIdentity | None = None
    is_over: bool = False
    is_idle: bool = False
    mark: tuple[int, ...] = ()
    moved_at: float = 0.0
    tree: tuple[Process, ...] = ()
    tree_at: float = 0.0
    ticks: int | None = None
    outlook: Outlook = HOPE
    vitals: Vitals | None = None
    dumps: list[stacks.Dump] = field(default_factory=list)
    """Of the rank itself, one per sample."""
    worker_dumps: dict[int, list[stacks.Dump]] = field(default_factory=dict)
    """pid → dumps of a process that the rank has started."""

    @property
    def is_watched(self) -> bool:
        """True while the rank has work."""
        return self.identity is not None and not (self.is_over or self.is_idle)

    def note_movement(self, now: float) -> None:
        """See whether its vitals have changed; cheap."""
        mark = self.reader.mark()
        if mark != self.mark:
            self.mark, self.moved_at = mark, now

    def forget(self) -> None:
        """Drop what was seen of its processes: it moves."""
        self.tree, self.outlook, self.vitals, self.ticks = (), HOPE, None, None
        self.dumps.clear()
        self.worker_dumps.clear()

    def is_computing(self) -> bool:
        """True where one file of the kernel's already tells that the rank runs."""
        if self.identity is None:
            return False
        state, ticks = main_state(self.identity.pid)
        before, self.ticks = self.ticks, ticks
        return state == "R" or (before is not None and ticks - before > _RUNNING_TICKS)

    def run(self) -> None:
        """Take down that it runs."""
        self.tree, self.outlook, self.vitals = (), HOPE, self.reader.read()

    def see(self, children: Mapping[int, Iterable[int]], now: float) -> None:
        """Read vitals and processes, and compare with the last reading."""
        tree = self._read_tree(children)
        self.outlook = outlook(self.tree, tree, now - self.tree_at)
        self.tree, self.tree_at = tree, now
        self.vitals = self.reader.read()

    def see_again(self, children: Mapping[int, Iterable[int]], now: float) -> None:
        """Read the processes after they were made to write their stacks, which made them run."""
        self.tree, self.tree_at = self._read_tree(children), now

    def _read_tree(self, children: Mapping[int, Iterable[int]]) -> tuple[Process, ...]:
        if self.identity is None:
            return ()
        tree = read_tree(self.identity.pid, children)
        return tree if tree and tree[0].start_ticks == self.identity.start_ticks else ()

    def suspects(self) -> list[Process]:
        """Return the processes whose stacks are of interest, the rank first."""
        if self.outlook.pulse not in (Pulse.STILL, Pulse.STARVED):
            return []
        return [self.tree[0], *self.outlook.suspects[:_MOST_SUSPECTS]]

    def ask(self, process: Process) -> int | None:
        """Have a process write its stacks; return from which byte on, None if it is not asked.

        Only where the signal meets a handler: anything else it would kill. A process between fork
        and exec could lose the handler in this moment, but such a one is not still.
        """
        current = read_process(process.pid)
        if (
            current is None
            or current.start_ticks != process.start_ticks
            or current.main.wait in (Wait.STOPPED, Wait.TRACED, Wait.OVER)
            or not current.catches_signal(STACK_SIGNAL)
            or self.identity is None
        ):
            return None
        begin = self.stack_size()
        who = ProcessIdentity(process.pid, process.start_ticks, self.identity.boot_id)
        return begin if send(who, STACK_SIGNAL) else None

    def stack_size(self) -> int:
        """Return the size of the file that stacks are written to."""
        try:
            return self.stack_file.stat().st_size
        except OSError:
            return 0

    def take(self, pid: int, dump: stacks.Dump) -> None:
        """Keep an answer."""
        is_own = self.identity is not None and pid == self.identity.pid
        (self.dumps if is_own else self.worker_dumps.setdefault(pid, [])).append(dump)

    def answer(self, begin: int) -> stacks.Dump | None:
        """Return the stacks written from a byte on, or None while they are not all there."""
        with contextlib.suppress(OSError), self.stack_file.open("rb") as file:
            file.seek(begin)
            return stacks.parse(file.read(_MOST_TAIL_BYTES).decode(errors="replace"))
        return None

    def standing(self, places: Places, *, is_last: bool = False) -> Standing:
        """Return where the rank stands, from all that was seen of it.

        With `is_last` what no stack bears out is unknown; before, it is suspected.
        """
        vitals = self.vitals
        pulse = self.outlook.pulse
        step = vitals.step if vitals else 0
        entered = {call.group: call for call in vitals.entered} if vitals else {}
        history = vitals.history if vitals else ()
        last = self._last_seen()
        condition = self._condition()
        call = vitals.current if vitals and not vitals.has_raised else None
        waiting = Waiting(call.line, call) if call else None
        line, doing, is_at_loader = (call.line if call else last), "", pulse is Pulse.STARVED
        is_unknown = is_last and condition is Condition.STILL and not self.dumps
        if self.dumps and condition is Condition.STILL:
            main = self.dumps[-1].main
            line = stacks.person_line(main, places.is_person)
            found = stacks.spot(main)
            if waiting is None and found is stacks.Spot.EXCHANGE:
                waiting = Waiting(line)
            is_at_loader = found is stacks.Spot.LOADER
            is_unknown = not self._is_proven(found)
            doing = stacks.doing(main, places.is_person)
        return Standing(
            rank=self.rank,
            condition=condition,
            step=step,
            waiting=waiting,
            line=line,
            doing=doing,
            is_at_loader=is_at_loader,
            is_unknown=is_unknown,
            worker=self._worker(places) if is_at_loader else None,
            entered=entered,
            history=history,
        )

    def _last_seen(self) -> Line:
        """Return the line of its last step, or of its last call if that was a moment ago."""
        if self.vitals is None:
            return Line()
        if self.vitals.has_stepped_since:
            return self.vitals.stepped
        if not self.vitals.entered:
            return Line()
        newest = max(self.vitals.entered, key=lambda call: call.since_ns)
        is_recent = newest.since_ns / 1e9 > self.moved_at - _RECENT_S
        return newest.line if is_recent else Line()

    def _condition(self) -> Condition:
        if self.is_over or self.outlook.pulse is Pulse.GONE:
            return Condition.ENDED
        if self.is_idle:
            return Condition.IDLE
        return {
            Pulse.STOPPED: Condition.FROZEN,
            Pulse.STILL: Condition.STILL,
            Pulse.STARVED: Condition.STILL,
        }.get(self.outlook.pulse, Condition.HOPE)

    def _is_proven(self, found: stacks.Spot) -> bool:
        """True where the stacks bear out what the kernel said."""
        last = self.dumps[-1]
        if any(dump.main != last.main for dump in self.dumps):
            return False
        if self.outlook.timed > sum(self._monitors()):
            return False  # a side thread wakes by itself, and nobody knows what it is for
        if self.outlook.pulse is not Pulse.STARVED:
            return True
        return found is stacks.Spot.LOADER and any(
            process.main.wait is Wait.STOPPED or self._is_stuck(process)
            for process in self.outlook.suspects
        )

    def _monitors(self) -> Iterable[int]:
        yield self.dumps[-1].monitors
        for found in self.worker_dumps.values():
            yield found[-1].monitors

    def _is_stuck(self, process: Process) -> bool:
        """True for a worker in the same place at each sample, which is not where idle ones are."""
        found = self.worker_dumps.get(process.pid, [])
        return bool(found) and all(
            dump.main == found[0].main and stacks.spot(dump.main) is not stacks.Spot.IDLE_WORKER
            for dump in found
        )

    def _worker(self, places: Places) -> Worker | None:
        for process in self.outlook.suspects:
            is_stopped = process.main.wait is Wait.STOPPED
            if is_stopped or self._is_stuck(process):
                found = self.worker_dumps.get(process.pid)
                line = stacks.person_line(found[-1].main, places.is_person) if found else Line()
                return Worker(process.pid, line, is_stopped)
        return None

    def stack_text(self, places: Places) -> str:
        """Return the newest stack of the rank and of what it waits for, with cells for files."""
        if self.outlook.pulse is Pulse.STOPPED:
            return "stopped: it answers nothing"
        if not self.dumps:
            return ""
        text = places.stack(self.dumps[-1].main)
        for pid, found in self.worker_dumps.items():
            text += f"\nprocess {pid}, which it has started:\n{places.stack(found[-1].main)}"
        return text
