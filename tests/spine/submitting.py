"""Real jobs through a real controller, without a notebook."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import (
    BlobId,
    Code,
    CodeKind,
    Job,
    JobSpec,
    Resources,
    SourceFile,
)
from tests.launching import KEPT_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.client import Client


def submit(client: Client, source: str, *, name: str = "", **changes: Any) -> Job:
    """Submit `source` as a cell and return the job."""
    content = source.encode()
    blob = BlobId(hashlib.sha256(content).hexdigest())
    if client.missing_blobs([blob]):
        client.put_blob(blob, content)
    environment = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}
    settings: dict[str, Any] = {
        "nodes": 1,
        "ranks_per_node": 1,
        "resources": Resources(),
        "interpreter": sys.executable,
        "cwd": str(client.home),
        "environment": tuple(environment.items()),
    } | changes
    file = SourceFile("cell.py", blob, "Cell In[1]")
    return client.submit(JobSpec(name=name, code=Code(CodeKind.CELL, (file,)), **settings))


def follow(
    client: Client, key: str, each: Callable[[], None] | None = None
) -> tuple[Job, dict[int, str]]:
    """Read a job to its end as a view does; return it and what each rank printed."""
    cursor: dict[str, int] = {}
    state = None
    # Pieces, joined at the end: adding to megabytes a thousand times a second does not end.
    pieces: dict[int, list[str]] = {}
    while True:
        reply = client.events(key, cursor, wait_s=5, state=state)
        cursor, state = reply.batch.cursor, reply.job.state
        for event in reply.batch.events:
            if event.text and event.rank is not None:
                pieces.setdefault(event.rank, []).append(event.text)
        if each is not None:
            each()
        if reply.job.state.is_terminal and not reply.batch.events:
            return reply.job, {rank: "".join(texts) for rank, texts in pieces.items()}
