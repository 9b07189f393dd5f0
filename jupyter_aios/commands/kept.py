"""Cells in kept ranks: run, push, pull, interrupt; for the magic, the verbs and Python."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client
from jupyter_aios.commands.cells import FollowedCell
from jupyter_aios.commands.results import LIMIT_BYTES, Fetched, check_owner, loaded
from jupyter_aios.core.cells import Cell
from jupyter_aios.core.entities import Job
from jupyter_aios.errors import (
    CapacityError,
    InputError,
    ShippingError,
    StateError,
    UnknownNameError,
)
from jupyter_aios.widgets.text.kept import CellTranscript
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jupyter_aios.core.cells import CellTicket, KeptStatus
    from jupyter_aios.training.packing.bundle import Packed

Ranks = int | str | Sequence[int] | None
"""What names ranks: one, `0,2`, `1-3`, `all`, or several; None leaves it to the default."""


def read_ranks(value: Ranks, world_size: int) -> tuple[int, ...]:
    """Return the ranks meant by `0,2`, `1-3`, `all`, a number or numbers.

    Raises:
        InputError: it is none of these, or names a rank that is not there.

    Example:
        >>> read_ranks("0,2-3", 4)
        (0, 2, 3)

    """
    if value == "all":
        return tuple(range(world_size))
    parts = [value] if isinstance(value, (str, int)) else value or ()
    found: list[int] = []
    for part in [piece for one in parts for piece in str(one).split(",")]:
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{part!r} names no rank", hint="--ranks 0,2 or --ranks 1-3 or all")
        found += range(int(first), int(last if dash else first) + 1)
    missing = [rank for rank in found if rank >= world_size]
    if missing or not found:
        told = ", ".join(map(str, missing))
        raise UnknownNameError(
            f"there is no rank {told}" if missing else "no rank is named",
            hint=f"its ranks are 0 to {world_size - 1}",
        )
    return tuple(sorted(set(found)))


@dataclass
class KeptRanks:
    """The kept ranks of one job, and what can be done with them."""

    client: Client
    job: Job
    prefix: str = "%aios"

    def status(self) -> KeptStatus:
        """Return what they have and are at.

        Raises:
            StateError: the job has none, or none any more.

        """
        return self.client.kept_status(str(self.job.id))

    def ranks(self, value: Ranks, default: Ranks = "all") -> tuple[int, ...]:
        """Return the ranks that are meant, or all of them."""
        return read_ranks(default if value is None else value, self.job.spec.world_size)

    def known_names(self, ranks: Iterable[int], status: KeptStatus) -> frozenset[str]:
        """Return the names that every one of `ranks` has."""
        names = [frozenset(status.names[rank]) for rank in ranks if rank < len(status.names)]
        return frozenset.intersection(*names) if names else frozenset()

    def other_definitions(
        self, code: str, namespace: Mapping[str, object], ranks: Iterable[int], status: KeptStatus
    ) -> list[str]:
        """Return what the code reads of the ranks and the notebook defines otherwise by now."""
        from jupyter_aios.training.kept.fingerprints import fingerprint
        from jupyter_aios.training.packing.cell import parse_cell
        from jupyter_aios.training.packing.names import unbound_names

        known = [status.names[rank] for rank in ranks if rank < len(status.names)]
        own = {
            n: fingerprint(namespace[n]) for n in unbound_names(parse_cell(code)) & set(namespace)
        }
        return [
            name
            for name, ours in sorted(own.items())
            if ours and any(one.get(name, "") not in ("", ours) for one in known)
        ]

    def order(
        self,
        packed: Packed,
        ranks: Sequence[int],
        *,
        push: Sequence[str] = (),
        pull: Sequence[str] = (),
        pull_limit_bytes: int = LIMIT_BYTES,
    ) -> CellTicket:
        """Send code and values, and order the cell. Does not wait for it."""
        for blob in self.client.missing_blobs(packed.blobs):
            self.client.put_blob(blob, packed.blobs[blob])
        cell = Cell(
            id=secrets.token_hex(8),
            code=packed.code,
            ranks=tuple(ranks),
            push=tuple(push),
            pull=tuple(pull),
            pull_limit_bytes=pull_limit_bytes,
        )
        return self.client.run_cell(str(self.job.id), cell)

    def follow(
        self,
        ticket: CellTicket,
        ranks: Sequence[int],
        write: Callable[[list[str]], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Give out the cell's lines until all ranks have done with it; raises as that does."""
        told = CellTranscript(self.job, ticket, ranks)
        FollowedCell(self.client, self.job, self.prefix, told, write, tell).run()

    def run(self, code: str, ranks: Ranks) -> Text:
        """Run code with the notebook's globals around it, and return the lines of it."""
        from jupyter_aios.training.packing.bundle import pack_cell

        chosen = self.ranks(ranks)
        theirs = self.known_names(chosen, self.status())
        namespace = vars(sys.modules["__main__"])
        packed = pack_cell(code, namespace, name="job.run", theirs=theirs)
        lines: list[str] = []
        self.follow(self.order(packed, chosen), chosen, lines.extend)
        return Text("\n".join(lines))

    # ------------------------------------------------------------------------- push and pull

    def push(self, values: Mapping[str, object], names: Sequence[str], ranks: Ranks) -> list[str]:
        """Give variables to ranks, and return what each rank got them as, when it has.

        Raises:
            UnknownNameError: there is no such variable, or no such rank.
            ShippingError: one cannot be pickled.

        """
        from jupyter_aios.training.packing.bundle import pack_cell

        chosen = self.ranks(ranks)
        known = self.known_names(chosen, self.status())
        packed = pack_cell("", values, name="push", push=names, theirs=known)
        ticket = self.order(packed, chosen, push=names)
        self.follow(ticket, chosen)
        # Changes of libraries (`textwrap.limit`) go along with every cell; nobody pushed them.
        return [entry.name for entry in packed.code.manifest if "." not in entry.name]

    def pull(
        self, names: Sequence[str], ranks: Sequence[int], folder: Path, limit_bytes: int
    ) -> dict[str, dict[int, Fetched]]:
        """Bring variables of ranks to `folder`: name → rank → what it left.

        Raises:
            UnknownNameError: a rank has no such variable.
            ShippingError: one cannot be pickled; says why.
            CapacityError: one is larger than the limit.

        """
        from jupyter_aios.training.packing.bundle import pack_cell

        status = self.status()
        for rank in ranks:
            known = status.names[rank] if rank < len(status.names) else ()
            for name in names:
                # No names are no news while the rank is busy: it says itself what it has not.
                if known and name not in known and not status.under_way:
                    raise UnknownNameError.among(f"variable of rank {rank}", name, known)
        check_owner(self.client, self.job)
        ticket = self.order(
            pack_cell("", {}, name="pull"), ranks, pull=names, pull_limit_bytes=limit_bytes
        )
        self.follow(ticket, ranks)
        return self.fetch(ticket.number, names, ranks, folder)

    def fetch(
        self, number: int, names: Sequence[str], ranks: Sequence[int], folder: Path
    ) -> dict[str, dict[int, Fetched]]:
        """Bring what a cell that is over has left to `folder`."""
        key = str(self.job.id)
        found: dict[str, dict[int, Fetched]] = {name: {} for name in names}
        for rank in ranks:
            for result in self.client.cell_results(key, number, rank):
                if "larger than" in result.error:
                    raise CapacityError(f"{result.name} of rank {rank} is {result.error}")
                if result.error:
                    raise ShippingError(f"{result.name} of rank {rank}: {result.error}")
                path = folder / f"{result.name}.{rank}.{result.kind}"
                self.client.fetch_result(key, result.name, path, cell=(number, rank))
                item = Fetched(result.name, result.kind, result.size_bytes, path)
                found[result.name][rank] = item
        return found

    def values(self, names: Sequence[str], ranks: Ranks) -> Any:  # noqa: ANN401 - of the ranks
        """Return what ranks have under `names`; of one name alone, and of one rank alone."""
        chosen = self.ranks(ranks)
        is_one = isinstance(ranks, int)
        with tempfile.TemporaryDirectory() as folder:
            found = self.pull(names, chosen, Path(folder), LIMIT_BYTES)
            values = {name: values_of(by_rank) for name, by_rank in found.items()}
        shown = {n: by_rank[chosen[0]] if is_one else by_rank for n, by_rank in values.items()}
        return shown[names[0]] if len(names) == 1 else shown

    def interrupt(self) -> tuple[int, ...]:
        """Interrupt the cells that run or wait, and return their numbers. Does not wait."""
        numbers = self.status().under_way
        if 0 in numbers:
            raise StateError(
                f"{self.job.name} runs its first code", hint=f"{self.prefix} cancel {self.job.name}"
            )
        for number in numbers:
            self.client.interrupt_cell(str(self.job.id), number)
        return numbers


def values_of(by_rank: Mapping[int, Fetched]) -> dict[int, Any]:
    """Return rank → value of what was fetched."""
    return {rank: loaded(item, {})[1] for rank, item in by_rank.items()}
