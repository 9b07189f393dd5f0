"""The use cases: what can be asked of the controller, one method each.

Who may ask has been decided before (`controller.access`); what comes of a job later is the
loop's. Every method may be called from many threads.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.controller.access import member_of
from jupyter_aios.controller.filesystem import free_bytes
from jupyter_aios.controller.ledger import KNOWN_NAMES, no_such_job
from jupyter_aios.controller.loop import ref_of
from jupyter_aios.controller.pruning import prune
from jupyter_aios.core import version
from jupyter_aios.core.cells import cell_faults
from jupyter_aios.core.entities import Job, JobId, StopReason
from jupyter_aios.core.ports import CellRef
from jupyter_aios.core.states import HOLDING, JobState
from jupyter_aios.core.submission import JOB_ID, blobs_of, code_faults, job_id, spec_faults
from jupyter_aios.core.wire import EventReply, Hello
from jupyter_aios.errors import CapacityError, InputError, StateError, UnknownNameError
from jupyter_aios.scheduling.queue import nodes_for, refuse_impossible
from jupyter_aios.scheduling.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jupyter_aios.controller.ledger import Ledger
    from jupyter_aios.controller.pruning import Blobs
    from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
    from jupyter_aios.core.entities import BlobId, Code, JobSpec, Node, Transition, UserId
    from jupyter_aios.core.ports import AttemptRef, Engine, LaunchPlan, Result, WarmStatus
    from jupyter_aios.core.secrets import SecretUse
    from jupyter_aios.core.wire import PruneReport, PruneRequest, WarmRequest


class Service:
    """What the controller can do for a person, over whatever transport."""

    def __init__(
        self, *, home: Path, user: UserId, ledger: Ledger, engines: Mapping[str, Engine],
        blobs: Blobs,
    ) -> None:  # fmt: skip
        self.user = user
        self._home = home
        self._ledger = ledger
        self._engines = engines
        self._blobs = blobs
        self._started_at = ledger.clock()
        self.check_secrets: Callable[[UserId, Sequence[SecretUse]], None] = lambda *_: None
        """Raises where a submission asks for secrets that its owner may not use."""
        offered = {name: engine.nodes() for name, engine in engines.items()}
        for name, nodes in offered.items():
            ledger.store.save_nodes(name, nodes)
        self._nodes = tuple(sorted(chain(*offered.values()), key=lambda node: node.id))

    # ---------------------------------------------------------------- the controller itself

    def hello(self) -> Hello:
        """Return who answers here, and how it is."""
        return Hello(
            version=version.__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            home=str(self._home),
            user=self.user,
            jobs_running=len(self._ledger.live(*HOLDING)),
            jobs_queued=len(self._ledger.live(JobState.QUEUED, JobState.PREEMPTED)),
            warm=tuple(
                line for engine in self._engines.values() for line in engine.warm_processes()
            ),
            free_bytes=free_bytes(self._home),
            trouble=self._ledger.trouble,
        )

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ordered by id."""
        return self._nodes

    def warm(self, request: WarmRequest) -> WarmStatus:
        """Begin to warm up for this interpreter and environment. Does not wait."""
        # The first engine is the one of the controller's own machine.
        engine = next(iter(self._engines.values()))
        return engine.warm(request.interpreter, request.environment)

    # ---------------------------------------------------------------- blobs

    def missing_blobs(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those that have to be sent before a job can use them."""
        return self._blobs.missing(blobs)

    def put_blob(self, blob: BlobId, chunks: Iterable[bytes]) -> None:
        """Store the bytes under their hash. Idempotent."""
        self._blobs.put(blob, chunks)

    # ---------------------------------------------------------------- submitting

    def submit(self, spec: JobSpec, owner: UserId, proposed_id: str = "") -> Job:
        """Store a job and return it; the loop starts it when its turn comes.

        The same `proposed_id` again returns the same job, so a client that lost the reply may
        ask again.

        Raises:
            InputError: the spec has faults; all are listed.
            CapacityError: no node or not enough of them could ever run it.
            DeniedError: a quota of the owner's, or of one of their groups, does not allow it.
            StateError: the name is taken by a job that is not over, or the id by another's.
            StorageError: the disk is full; nothing was stored.

        """
        if proposed_id and not JOB_ID.fullmatch(proposed_id):
            raise InputError(f"{proposed_id!r} is not a job's id", hint="leave it out")
        with self._ledger.change:
            known = self._ledger.job(JobId(proposed_id)) if proposed_id else None
            if known is not None and known.owner == owner:
                return known
            if known is not None:
                raise StateError(f"the id {proposed_id} is taken", hint="submit it again")
            job = self._new_job(spec, owner, JobId(proposed_id) if proposed_id else self._new_id())
            self._plan(job)
            self._ledger.add(job, member_of(self._ledger.store, owner, owner=self.user))
        return job

    def dry_run(self, spec: JobSpec, owner: UserId) -> LaunchPlan:
        """Return the plan of the job's first attempt on an empty cluster. Nothing is stored.

        Raises:
            InputError, CapacityError, StateError: as `submit`.

        """
        return self._plan(self._new_job(spec, owner, self._new_id()))

    def _new_job(self, spec: JobSpec, owner: UserId, job_id: JobId) -> Job:
        self._engine(spec.engine)
        faults = spec_faults(spec) + _machine_faults(spec)
        if faults:
            raise InputError.of_faults(faults, hint="-h explains the options")
        self._refuse_missing_blobs(spec.code)
        self.check_secrets(owner, spec.secrets)
        spec = replace(spec, name=self._name(spec, owner))
        spec = _with_share(spec, nodes_for(spec, self._nodes))
        now = self._ledger.clock()
        return Job(job_id, owner, spec, JobState.QUEUED, submitted_at=now, reason="submitted")

    def _refuse_missing_blobs(self, code: Code) -> None:
        missing = self._blobs.missing(blobs_of(code))
        if missing:
            raise InputError(
                f"{len(missing)} files of the job are not here, such as {missing[0][:12]}…",
                hint="send them first: PUT /v1/blobs/{sha256}",
            )

    def _new_id(self) -> JobId:
        return job_id(self._ledger.clock(), secrets.token_hex(3))

    def _plan(self, job: Job) -> LaunchPlan:
        """Plan on an empty cluster: what can never be launched is refused now, not later."""
        refuse_impossible(job.spec, self._nodes)
        allocation = Room(nodes_for(job.spec, self._nodes)).place(job.spec)
        if allocation is None:  # pragma: no cover - refuse_impossible has said so before
            raise CapacityError("the job does not fit on these nodes")
        return self._engine(job.spec.engine).plan(job, allocation, job.attempt + 1)

    def _name(self, spec: JobSpec, owner: UserId) -> str:
        taken = {job.name: job for job in self._ledger.live() if job.owner == owner}
        if not spec.name:
            newest = self._ledger.store.find_jobs(owner=owner, limit=KNOWN_NAMES)
            names = taken.keys() | {job.name for job in newest}
            numbers = [int(m[1]) for name in names if (m := re.fullmatch(r"train-(\d{1,9})", name))]
            return f"train-{max(numbers, default=0) + 1}"
        if spec.name in taken:
            holder = taken[spec.name]
            msg = f"a job named {spec.name!r} is {holder.state.value} already ({holder.id})"
            raise StateError(msg, hint=f"take another --name, or %aios cancel {spec.name}")
        return spec.name

    # ---------------------------------------------------------------- reading

    def jobs(self, owner: UserId, states: Sequence[JobState], limit: int | None) -> list[Job]:
        """Return the owner's jobs, newest first."""
        found = self._ledger.store.find_jobs(owner=owner, states=states or None, limit=limit)
        return [self._ledger.with_reason(job) for job in found]

    def job(self, key: str, owner: UserId) -> Job:
        """Return the job of this id, whoever's it is, or the owner's newest of this name.

        Raises:
            UnknownNameError: there is none; the nearest names are the hint.

        """
        job = self._ledger.job(JobId(key)) if JOB_ID.fullmatch(key) else None
        if job is None:
            named = self._ledger.store.find_jobs(owner=owner, name=key, limit=1)
            job = self._ledger.with_reason(named[0]) if named else None
        if job is None:
            raise no_such_job(self._ledger.store, key, owner)
        return job

    def history(self, job: Job) -> tuple[Transition, ...]:
        """Return the job's transitions, oldest first."""
        return self._ledger.store.history(job.id)

    def read_events(self, key: JobId, cursor: Mapping[str, int], limit_bytes: int) -> EventReply:
        """Return what came after `cursor`, and the job as it was just before.

        In this order: a job that was over before its events were read can have no later ones.

        Raises:
            UnknownNameError: there is no such job any more.
            StorageError: a file of events is damaged.

        """
        job = self._ledger.job(key)
        if job is None:
            raise UnknownNameError.among("job", key, ())
        batch = self._engine(job.spec.engine).read(job.id, cursor, limit_bytes)
        return EventReply(batch, job)

    def results(self, job: Job) -> tuple[Result, ...]:
        """Return what the newest attempt left for `pull`."""
        if job.attempt == 0:
            return ()
        return self._engine(job.spec.engine).results(ref_of(job))

    def result_path(self, job: Job, name: str) -> Path:
        """Return the file of one result.

        Raises:
            UnknownNameError: there is none of that name.

        """
        return self._listed_path(job, ref_of(job), name)

    def _listed_path(self, job: Job, ref: AttemptRef | CellRef, name: str) -> Path:
        # Only a name that the job itself listed reaches the file system.
        engine = self._engine(job.spec.engine)
        names = {result.name for result in engine.results(ref)}
        if name not in names:
            raise UnknownNameError.among("result", name, names)
        return engine.result_path(ref, name)

    # ---------------------------------------------------------------- kept ranks

    def kept(self, job: Job) -> KeptStatus:
        """Return what the job's kept ranks have, and which cells are not over.

        Raises:
            StateError: the job has no kept ranks, or none any more.

        """
        refuse_unkept(job)
        return self._engine(job.spec.engine).kept(ref_of(job))

    def run_cell(self, job: Job, cell: Cell) -> CellTicket:
        """Have kept ranks run one more cell, after those before it. Does not wait.

        Raises:
            StateError: the job has no kept ranks, or none any more.
            InputError: the cell has faults; all are listed.
            StorageError: the disk is full; nothing runs.

        """
        refuse_unkept(job)
        faults = cell_faults(cell, job.spec.world_size) + code_faults(cell.code)
        if faults:
            raise InputError.of_faults(faults, hint=f"{job.name} goes on as it was")
        self._refuse_missing_blobs(cell.code)
        return self._engine(job.spec.engine).run_cell(ref_of(job), cell)

    def interrupt_cell(self, job: Job, number: int) -> None:
        """Interrupt a cell; its ranks stay. Harmless where it is over."""
        if job.state in HOLDING:
            self._engine(job.spec.engine).interrupt_cell(ref_of(job), number)

    def cell_results(self, job: Job, number: int, rank: int) -> tuple[Result, ...]:
        """Return what a rank left in a cell."""
        ref = CellRef(ref_of(job), number, rank)
        return self._engine(job.spec.engine).results(ref)

    def cell_result_path(self, job: Job, number: int, rank: int, name: str) -> Path:
        """Return the file of one variable that a rank left in a cell.

        Raises:
            UnknownNameError: there is none of that name.

        """
        return self._listed_path(job, CellRef(ref_of(job), number, rank), name)

    # ---------------------------------------------------------------- ending

    def cancel(self, key: JobId) -> Job:
        """Have the job end and return it as it is now. Idempotent, does not wait for the ranks."""
        with self._ledger.change:
            job = self._ledger.job(key)
            if job is None:
                raise UnknownNameError.among("job", key, ())
            if job.state.is_terminal:
                return job
            if job.state not in HOLDING:
                return self._ledger.move(
                    job, JobState.CANCELLED, "cancelled while it waited",
                    ended_at=self._ledger.clock(),
                )  # fmt: skip
            # First the note, then the order: a loop that sees the end knows why.
            self._ledger.cancelling.add(job.id)
            self._engine(job.spec.engine).stop(ref_of(job), StopReason.CANCELLED)
        self._ledger.wake()
        return job

    def prune(self, owner: UserId, request: PruneRequest) -> PruneReport:
        """Remove finished jobs of the owner's, as `controller.pruning` says."""
        return prune(self._ledger, self._engines, self._blobs, owner, request)

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            raise UnknownNameError.among("engine", name, self._engines)
        return self._engines[name]


def refuse_unkept(job: Job) -> None:
    """Return where the job holds ranks that are kept.

    Raises:
        StateError: it does not; says what it was or is.

    """
    if job.spec.keep_idle_s is None:
        msg = f"the ranks of {job.name} are not kept after their code"
        raise StateError(msg, hint="start it with %%aios_train --keep")
    if job.state not in HOLDING:
        reason = f": {job.reason}" if job.reason not in ("", job.state.value) else ""
        msg = f"{job.name} has no ranks: it is {job.state.value}{reason}"
        hint = "start it again with %%aios_train --keep" if job.state.is_terminal else ""
        raise StateError(msg, hint=hint or f"%aios attach {job.name} tells when it runs")


def _machine_faults(spec: JobSpec) -> list[str]:
    """What only a look at this machine can tell."""
    found = []
    if spec.interpreter.startswith("/") and not os.access(spec.interpreter, os.X_OK):
        found.append(f"the interpreter {spec.interpreter} is not there or cannot be executed")
    if spec.cwd.startswith("/") and not Path(spec.cwd).is_dir():
        found.append(f"the working directory {spec.cwd} is not there")
    return found


def _with_share(spec: JobSpec, nodes: Sequence[Node]) -> JobSpec:
    """Where --cpus was not given, it is the whole share of the smallest node that must help."""
    if spec.resources.cpu_milli or len(nodes) < spec.nodes:
        return spec
    shares = sorted((node.capacity.cpu_milli for node in nodes), reverse=True)
    return replace(spec, resources=replace(spec.resources, cpu_milli=shares[spec.nodes - 1]))
