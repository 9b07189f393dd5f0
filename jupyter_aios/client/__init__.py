"""The controller's use cases from the outside, over its Unix socket; standard library only.

The controller is started on the first call that needs it. A call that loses the controller in
the middle starts another one and asks again: every request may be repeated (a submission carries
the id that the client has drawn, so it makes one job however often it arrives).
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jupyter_aios.client.login import Login, read_login
from jupyter_aios.client.starting import environ
from jupyter_aios.client.transport import Transport
from jupyter_aios.core import version
from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
from jupyter_aios.core.entities import BlobId, Job, JobSpec, Node, Transition
from jupyter_aios.core.home import home_folder
from jupyter_aios.core.ports import LaunchPlan, Result, WarmStatus
from jupyter_aios.core.submission import job_id
from jupyter_aios.core.wire import (
    BlobQuery,
    EventReply,
    Hello,
    PruneReport,
    PruneRequest,
    WarmRequest,
    from_plain,
    to_plain,
)
from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from jupyter_aios.client.remote import RemoteTransport
    from jupyter_aios.client.safe import Safe
    from jupyter_aios.core.states import JobState

_CHUNK_BYTES = 2**18


def connect(*, notice: Callable[[str], None] | None = None) -> Client:
    """Return a client of this user's controller, which is started if there is none.

    Raises:
        AiosError: it cannot be started; the message says why.

    """
    client = Client(notice=notice)
    client.hello()
    return client


class Client:
    """The API as methods. Each call has a connection of its own, so threads may share a client.

    `notice` is told the few things that a person should know but that stop nothing.

    Every method raises the AiosError that the controller replied with, and UnavailableError where
    no controller answers and none can be started.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        notice: Callable[[str], None] | None = None,
        as_version: str = "",
    ) -> None:
        self.home = home if home is not None else home_folder(environ())
        self._transport = _transport(
            self.home, as_version or version.__version__, notice or _to_stderr
        )

    @classmethod
    def of_login(cls, home: Path, login: Login) -> Client:
        """Return a client of a controller elsewhere, whatever `home` has logged in to."""
        client = cls(home)
        client._transport = _remote(home, login, version.__version__)
        return client

    @functools.cached_property
    def safe(self) -> Safe:
        """The vault, rights and audit."""
        # Loaded when it is asked for: most lines ask for none of it.
        from jupyter_aios.client.safe import Safe

        return Safe(self._json)

    # ---------------------------------------------------------------- the controller itself

    def is_running(self) -> bool:
        """Return whether a controller answers; starts none."""
        return self._transport.is_running()

    def hello(self) -> Hello:
        """Return who answers."""
        return from_plain(Hello, self._json("GET", "/v1/hello"))

    def shutdown(self) -> bool:
        """End the controller; jobs go on. False where there was none."""
        return self._transport.shutdown()

    def warm(self, interpreter: str, environment: Mapping[str, str]) -> WarmStatus:
        """Begin to warm up for this interpreter and environment. Does not wait."""
        request = WarmRequest(interpreter, dict(environment))
        return from_plain(WarmStatus, self._json("POST", "/v1/warm", body=request))

    def nodes(self) -> list[Node]:
        """Return all nodes."""
        return from_plain(list[Node], self._json("GET", "/v1/nodes"))

    def prune(self, request: PruneRequest) -> PruneReport:
        """Remove finished jobs."""
        return from_plain(PruneReport, self._json("POST", "/v1/prune", body=request))

    # ---------------------------------------------------------------- blobs

    def missing_blobs(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those that have to be sent."""
        query = BlobQuery(tuple(blobs))
        return from_plain(list[BlobId], self._json("POST", "/v1/blobs/missing", body=query))

    def put_blob(self, blob: BlobId, content: bytes | Path) -> None:
        """Send the bytes, or the file, whose SHA-256 is `blob`. Idempotent."""
        self._transport.ask("PUT", f"/v1/blobs/{blob}", content, read=_read)

    # ---------------------------------------------------------------- jobs

    def submit(self, spec: JobSpec) -> Job:
        """Submit a job and return it as it was stored. Does not wait for anything else."""
        drawn = job_id(time.time(), secrets.token_hex(3))
        return from_plain(Job, self._json("POST", "/v1/jobs", {"id": drawn}, body=spec))

    def dry_run(self, spec: JobSpec) -> LaunchPlan:
        """Return the plan of the job's first attempt; nothing is stored."""
        return from_plain(LaunchPlan, self._json("POST", "/v1/plans", body=spec))

    def jobs(self, *, states: Iterable[JobState] = (), limit: int | None = None) -> list[Job]:
        """Return your jobs, newest first."""
        query: dict[str, object] = {"state": [state.value for state in states]}
        if limit is not None:
            query["limit"] = limit
        return from_plain(list[Job], self._json("GET", "/v1/jobs", query))

    def job(self, key: str) -> Job:
        """Return the job of this id, or your newest of this name."""
        return from_plain(Job, self._json("GET", _job_path(key)))

    def history(self, key: str) -> list[Transition]:
        """Return the job's transitions, oldest first."""
        return from_plain(list[Transition], self._json("GET", _job_path(key, "history")))

    def events(
        self,
        key: str,
        cursor: Mapping[str, int],
        *,
        wait_s: float = 0.0,
        limit_bytes: int = 2**20,
        state: JobState | None = None,
    ) -> EventReply:
        """Return what came after `cursor`, and the job as it was just before.

        Waits up to `wait_s` (at most 60) while there is nothing new and the job stays in `state`.
        A terminal job without events means that everything has been read.
        """
        query: dict[str, object] = {
            "cursor": json.dumps(dict(cursor)),
            "wait_s": wait_s,
            "limit_bytes": limit_bytes,
        }
        if state is not None:
            query["state"] = state.value
        path = _job_path(key, "events")
        return from_plain(EventReply, self._json("GET", path, query, wait_s=wait_s))

    def cancel(self, key: str) -> Job:
        """Have the job end and return it as it is now. Idempotent, does not wait."""
        return from_plain(Job, self._json("POST", _job_path(key, "cancel")))

    def kept_status(self, key: str) -> KeptStatus:
        """Return what a job's kept ranks have, and which cells are not over."""
        return from_plain(KeptStatus, self._json("GET", _job_path(key, "kept")))

    def run_cell(self, key: str, cell: Cell) -> CellTicket:
        """Have kept ranks run one more cell, after those before it. Does not wait."""
        return from_plain(CellTicket, self._json("POST", _job_path(key, "cells"), body=cell))

    def interrupt_cell(self, key: str, number: int) -> None:
        """Interrupt a cell; the ranks stay. Harmless where it is over, does not wait."""
        path = _job_path(key, "cells", str(number), "interrupt")
        self._transport.ask("POST", path, read=_read)

    def cell_results(self, key: str, number: int, rank: int) -> list[Result]:
        """Return what a rank left in a cell."""
        path = _job_path(key, *_cell_path(number, rank))
        return from_plain(list[Result], self._json("GET", path))

    def results(self, key: str) -> list[Result]:
        """Return what the newest attempt left for `pull`."""
        return from_plain(list[Result], self._json("GET", _job_path(key, "results")))

    def fetch_result(
        self, key: str, name: str, target: Path, *, cell: tuple[int, int] | None = None
    ) -> None:
        """Write the bytes of one result to `target`; it is whole, or as it was before.

        With `cell`, (number, rank), it is one that the rank left in that cell.

        Raises:
            StorageError: `target` cannot be written.

        """
        part = target.with_name(f".{target.name}.{os.getpid()}.part")

        def save(reply: http.client.HTTPResponse) -> None:
            with part.open("wb") as file:
                while chunk := reply.read(_CHUNK_BYTES):
                    file.write(chunk)
            if reply.length:
                raise http.client.IncompleteRead(b"", reply.length)

        try:
            place = ("results",) if cell is None else _cell_path(*cell)
            self._transport.ask("GET", _job_path(key, *place, name), read=save)
            part.replace(target)
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    # ---------------------------------------------------------------- requests

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: object = None,
        wait_s: float = 0.0,
    ) -> Any:  # noqa: ANN401 - parsed JSON
        if query:
            path += "?" + urlencode(query, doseq=True)
        payload = None if body is None else json.dumps(to_plain(body)).encode()
        reply = self._transport.ask(method, path, payload, read=_read, wait_s=wait_s)
        return json.loads(reply) if reply else None


def _transport(
    home: Path, own_version: str, notice: Callable[[str], None]
) -> Transport | RemoteTransport:
    """Return the way to the controller of a home: here, or where the home has logged in."""
    login = read_login(home)
    if login is None:
        return Transport(home, own_version, notice)
    return _remote(home, login, own_version)


def _remote(home: Path, login: Login, own_version: str) -> RemoteTransport:
    # Loaded when somebody has logged in: ssl takes time.
    from jupyter_aios.client.remote import RemoteTransport

    return RemoteTransport(home, login, own_version)


def _job_path(*parts: str) -> str:
    return "/".join(["/v1/jobs", *(quote(part, safe="") for part in parts)])


def _cell_path(number: int, rank: int) -> tuple[str, ...]:
    return "cells", str(number), "ranks", str(rank), "results"


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


def _read(reply: http.client.HTTPResponse) -> bytes:
    return reply.read()
