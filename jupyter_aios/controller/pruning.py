"""Removing finished jobs, and the blobs that only they used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from jupyter_aios.core.ports import BlobStore
from jupyter_aios.core.submission import blobs_of
from jupyter_aios.core.wire import PruneReport
from jupyter_aios.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jupyter_aios.controller.ledger import Ledger
    from jupyter_aios.core.entities import BlobId, Job, UserId
    from jupyter_aios.core.ports import Engine
    from jupyter_aios.core.wire import PruneRequest

BLOB_AGE_S = 3600.0
"""A blob that no job uses is removed only after this: its job may be about to be submitted."""


class Blobs(BlobStore, Protocol):
    """A blob store that takes bytes and can be swept."""

    def put(self, blob: BlobId, chunks: Iterable[bytes]) -> None:
        """Store the bytes under their name. Idempotent."""

    def remove_unused(self, keep: set[BlobId], older_than_s: float, now: float) -> int:
        """Remove blobs outside `keep` and return the bytes freed."""


def prune(
    ledger: Ledger,
    engines: Mapping[str, Engine],
    blobs: Blobs,
    owner: UserId,
    request: PruneRequest,
) -> PruneReport:
    """Remove finished jobs: older than asked, beyond the newest to keep, or by name.

    Without any of these all finished jobs go. Jobs that are not over always stay.

    Raises:
        UnknownNameError: a name that no finished job has; nothing was removed.

    """
    over = [job for job in ledger.store.find_jobs(owner=owner) if job.state.is_terminal]
    names = {job.name for job in over} | {str(job.id) for job in over}
    for name in request.names:
        if name not in names:
            raise UnknownNameError.among("finished job", name, names)
    chosen = _chosen(over, request, ledger.clock())
    freed = 0
    for job in chosen:
        # Files first: a job whose files are still there is still listed, and can be pruned.
        freed += engines[job.spec.engine].discard(job.id) if job.spec.engine in engines else 0
        ledger.store.remove_jobs([job.id])
    # After the removal, and of all owners: a job that was submitted meanwhile is among them.
    in_use = {blob for job in ledger.store.find_jobs() for blob in blobs_of(job.spec.code)}
    freed += blobs.remove_unused(in_use, BLOB_AGE_S, time.time())
    return PruneReport(tuple(job.id for job in chosen), freed)


def _chosen(over: Sequence[Job], request: PruneRequest, now: float) -> list[Job]:
    """Return the finished jobs (newest first) that the request means."""
    chosen = list(over)
    if request.names:
        chosen = [job for job in chosen if job.name in request.names or job.id in request.names]
    if request.keep is not None:
        kept = {job.id for job in over[: request.keep]}
        chosen = [job for job in chosen if job.id not in kept]
    if request.older_than_s is not None:
        limit = now - request.older_than_s
        chosen = [job for job in chosen if (job.ended_at or job.submitted_at) <= limit]
    return chosen
