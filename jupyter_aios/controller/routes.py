"""The use cases as HTTP: core's dataclasses are the types, `/v1/openapi.json` describes them.

Replies are made by `core.wire`, as the client reads them. The models that FastAPI makes of the
dataclasses check what comes in and describe what goes out.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import anyio.from_thread
from fastapi import Depends, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

# FastAPI reads the annotations of endpoints while running: none of these may move below.
from jupyter_aios.controller.service import Service
from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
from jupyter_aios.core.entities import BlobId, Job, JobSpec, Node, Transition, UserId
from jupyter_aios.core.ports import LaunchPlan, Result, WarmStatus
from jupyter_aios.core.states import JobState  # noqa: TC001
from jupyter_aios.core.wire import (
    BlobQuery,
    EventReply,
    Hello,
    PruneReport,
    PruneRequest,
    WarmRequest,
    to_plain,
)
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_WAIT_S = 60.0
MAX_EVENT_BYTES = 16 * 2**20
_POLL_S = (0.02, 0.15)
"""Between two looks at a job's files while nothing new is in them: at first, and in the end.
Looking costs the ranks' own processors; nobody minds when a rare line comes a little later."""
_STREAM = re.compile(r"[0-9]+/[A-Za-z0-9_][A-Za-z0-9._-]*")


def reply(value: object, status: int = 200) -> Response:
    """Return entities as JSON, as `core.wire.from_plain` reads them."""
    body = json.dumps(to_plain(value), separators=(",", ":"))
    return Response(body, status_code=status, media_type="application/json")


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _user(request: Request) -> UserId:
    user: UserId = request.state.admission.actor.user
    return user


async def _job(request: Request, key: str) -> Job:
    """The job that the gate has found under `key`, an id or a name."""
    del key
    job: Job = request.state.admission.job
    return job


Use = Annotated[Service, Depends(_service)]
User = Annotated[UserId, Depends(_user)]
Named = Annotated[Job, Depends(_job)]


# -------------------------------------------------------------------- the controller itself


def openapi(request: Request) -> Response:
    """Describe this API."""
    return reply(request.app.openapi())


def hello(use: Use, request: Request) -> Response:
    """Who answers here and how it is, and who you are here."""
    actor = request.state.admission.actor
    return reply(replace(use.hello(), asker=actor.user, role=actor.role.value))


def shutdown(use: Use, request: Request) -> Response:
    """End the controller after this reply; jobs go on."""
    farewell = use.hello()
    request.app.state.server.should_exit = True
    return reply(farewell)


def warm(wanted: WarmRequest, use: Use) -> Response:
    """Begin to warm up for launches with this interpreter. Does not wait."""
    return reply(use.warm(wanted))


def nodes(use: Use) -> Response:
    """All nodes."""
    return reply(use.nodes())


def prune(wanted: PruneRequest, use: Use, user: User) -> Response:
    """Remove finished jobs and what only they used."""
    return reply(use.prune(user, wanted))


# -------------------------------------------------------------------- blobs


def missing_blobs(query: BlobQuery, use: Use) -> Response:
    """Which of these blobs must be sent."""
    return reply(use.missing_blobs(BlobId(blob) for blob in query.blobs))


async def put_blob(sha256: str, request: Request, use: Use) -> Response:
    """Store the body, whose SHA-256 is in the path. Idempotent."""
    stream = request.stream()

    def chunks() -> Iterator[bytes]:
        # The blob store reads at the disk's pace in its own thread.
        while (chunk := anyio.from_thread.run(_next, stream)) is not None:
            yield chunk

    await run_in_threadpool(use.put_blob, BlobId(sha256), chunks())
    return Response(status_code=204)


async def _next(stream: Any) -> bytes | None:  # noqa: ANN401 - an async generator of bytes
    return await anext(stream, None)


# -------------------------------------------------------------------- jobs


def dry_run(spec: JobSpec, use: Use, user: User) -> Response:
    """Plan the job's first attempt on an empty cluster; nothing is stored."""
    return reply(use.dry_run(spec, user))


def submit(spec: JobSpec, use: Use, user: User, id: str = "") -> Response:  # noqa: A002
    """Store a job. The same `id` again returns the same job."""
    return reply(use.submit(spec, user, id))


def jobs(
    use: Use,
    user: User,
    state: Annotated[list[JobState] | None, Query()] = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Your jobs, newest first, or those in one of the states."""
    return reply(use.jobs(user, state or (), limit))


def job(named: Named) -> Response:
    """The job of this id, or your newest of this name."""
    return reply(named)


def history(named: Named, use: Use) -> Response:
    """The job's transitions, oldest first."""
    return reply(use.history(named))


def cancel(named: Named, use: Use) -> Response:
    """Have the job end. Idempotent, does not wait for its ranks."""
    return reply(use.cancel(named.id))


def kept(named: Named, use: Use) -> Response:
    """What the job's kept ranks have, and which cells are not over."""
    return reply(use.kept(named))


def run_cell(cell: Cell, named: Named, use: Use) -> Response:
    """Run one more cell in kept ranks, after those before it. The same `id` again is the same cell.

    Does not wait.
    """
    return reply(use.run_cell(named, cell))


def interrupt_cell(number: int, named: Named, use: Use) -> Response:
    """Interrupt a cell; the ranks stay. Harmless where it is over, does not wait."""
    use.interrupt_cell(named, number)
    return Response(status_code=204)


def cell_results(number: int, rank: int, named: Named, use: Use) -> Response:
    """What a rank left in a cell."""
    return reply(use.cell_results(named, number, rank))


def cell_result(number: int, rank: int, name: str, named: Named, use: Use) -> FileResponse:
    """The bytes of one variable that a rank left in a cell."""
    path = use.cell_result_path(named, number, rank, name)
    return FileResponse(path, media_type="application/octet-stream")


def results(named: Named, use: Use) -> Response:
    """What the newest attempt left for `pull`."""
    return reply(use.results(named))


def result(name: str, named: Named, use: Use) -> FileResponse:
    """The bytes of one result."""
    path = use.result_path(named, name)
    return FileResponse(path, media_type="application/octet-stream")


async def events(
    request: Request,
    named: Named,
    use: Use,
    *,
    cursor: str = "{}",
    wait_s: float = 0.0,
    limit_bytes: Annotated[int, Query(ge=1, le=MAX_EVENT_BYTES)] = 2**20,
    state: JobState | None = None,
) -> Response:
    """Events after `cursor`, a JSON object {stream: offset}.

    Replies at once when there are any, when the job is over or not in `state` any more; else
    waits up to `wait_s` seconds (at most 60) for that.
    """
    after = _cursor(cursor)
    deadline = time.monotonic() + min(wait_s, MAX_WAIT_S)
    pause_s, longest_pause_s = _POLL_S
    while True:
        news = await run_in_threadpool(use.read_events, named.id, after, limit_bytes)
        is_news = bool(news.batch.events) or state not in (None, news.job.state)
        is_over = news.job.state.is_terminal or request.app.state.server.should_exit
        if is_news or is_over or time.monotonic() >= deadline:
            return await run_in_threadpool(reply, news)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, longest_pause_s)


def _cursor(text: str) -> dict[str, int]:
    """Return the offsets of a cursor; its stream names reach the file system, so they are held."""
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    is_cursor = isinstance(data, dict) and all(
        _STREAM.fullmatch(name) and type(offset) is int and offset >= 0
        for name, offset in data.items()
    )
    if not is_cursor:
        raise InputError(f"{text[:80]!r} is not a cursor", hint="begin with {}")
    cursor: dict[str, int] = data
    return cursor


ENDPOINTS: tuple[tuple[str, str, Callable[..., Any], Any], ...] = (
    ("GET", "/v1/openapi.json", openapi, None),
    ("GET", "/v1/hello", hello, Hello),
    ("POST", "/v1/shutdown", shutdown, Hello),
    ("POST", "/v1/warm", warm, WarmStatus),
    ("GET", "/v1/nodes", nodes, list[Node]),
    ("POST", "/v1/prune", prune, PruneReport),
    ("POST", "/v1/blobs/missing", missing_blobs, list[str]),
    ("PUT", "/v1/blobs/{sha256}", put_blob, None),
    ("POST", "/v1/plans", dry_run, LaunchPlan),
    ("POST", "/v1/jobs", submit, Job),
    ("GET", "/v1/jobs", jobs, list[Job]),
    ("GET", "/v1/jobs/{key}", job, Job),
    ("GET", "/v1/jobs/{key}/history", history, list[Transition]),
    ("GET", "/v1/jobs/{key}/events", events, EventReply),
    ("POST", "/v1/jobs/{key}/cancel", cancel, Job),
    ("GET", "/v1/jobs/{key}/kept", kept, KeptStatus),
    ("POST", "/v1/jobs/{key}/cells", run_cell, CellTicket),
    ("POST", "/v1/jobs/{key}/cells/{number}/interrupt", interrupt_cell, None),
    ("GET", "/v1/jobs/{key}/cells/{number}/ranks/{rank}/results", cell_results, list[Result]),
    ("GET", "/v1/jobs/{key}/cells/{number}/ranks/{rank}/results/{name}", cell_result, None),
    ("GET", "/v1/jobs/{key}/results", results, list[Result]),
    ("GET", "/v1/jobs/{key}/results/{name:path}", result, None),
)
"""Method, path, function, and what a success holds; the rule of each is in `rules.RULES`."""
