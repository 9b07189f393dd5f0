"""The engine itself: folders, agents and warm processes of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Failure, JobId, Launcher, StopReason
from jupyter_aios.core.ports import (
    NO_SECRETS,
    AttemptRef,
    AttemptStatus,
    CellRef,
    EventBatch,
    LaunchPlan,
    Result,
    WarmStatus,
)
from jupyter_aios.core.submission import value_blobs
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.engines.local import kept
from jupyter_aios.engines.local.machine import virtual_nodes
from jupyter_aios.engines.local.plans import plan_of
from jupyter_aios.engines.local.reading import read
from jupyter_aios.engines.local.warm import WarmKey, WarmPool
from jupyter_aios.engines.local.watch import FENCED, AttemptWatch
from jupyter_aios.errors import InputError, StorageError, UnavailableError, UnknownNameError
from jupyter_aios.training import results
from jupyter_aios.training.journal import (
    CLAIM_FILE,
    PLAN_FILE,
    STOP_FILE,
    claim,
    read_json,
    write_json,
)
from jupyter_aios.training.processes import ProcessIdentity, send
from jupyter_aios.training.secrets import bundle, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
    from jupyter_aios.core.entities import Allocation, Code, Job, Node
    from jupyter_aios.core.ports import BlobStore
    from jupyter_aios.core.secrets import Secret


class LocalEngine:
    """Implements `core.ports.Engine` on this machine."""

    name = "local"

    def __init__(self, home: Path, blobs: BlobStore) -> None:
        self._jobs = home / "jobs"
        self._blobs = blobs
        self._pool = WarmPool(home)
        self._watches: dict[AttemptRef, AttemptWatch] = {}

    def nodes(self) -> tuple[Node, ...]:
        """Return this machine as declared shares."""
        return virtual_nodes(os.environ)

    def plan(self, job: Job, allocation: Allocation, attempt: int) -> LaunchPlan:
        """Return the attempt as data; pure."""
        return plan_of(job, allocation, attempt, self._jobs)

    def launch(self, plan: LaunchPlan, secrets: Mapping[str, Secret] = NO_SECRETS) -> str:
        """Write the job's folder and hand the attempt to an agent."""
        secrets = chosen(plan.secrets, secrets)
        attempt = self._attempt_folder(AttemptRef(plan.job_id, plan.attempt))
        try:
            self._lay_out(Path(plan.folder), plan.code)
            attempt.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(attempt / PLAN_FILE, to_plain(plan))
        except OSError as error:
            msg = f"the job's folder {plan.folder} cannot be written: {error.strerror}"
            raise StorageError(msg, hint="make room: %aios prune") from error
        if (attempt / CLAIM_FILE).exists():
            return "claimed already"
        with bundle(secrets) as descriptor:
            if plan.launcher is Launcher.TORCHRUN:
                return self._launch_cold(attempt / PLAN_FILE, plan, descriptor)
            key = WarmKey.of(plan.interpreter, dict(plan.environment))
            return self._pool.launch(key, str(attempt / PLAN_FILE), descriptor)

    def _launch_cold(self, plan_path: Path, plan: LaunchPlan, descriptor: int | None) -> str:
        start = "cold: torchrun"
        log = os.open(plan_path.parent / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # The process ends at once: the agent is its child in a session of its own.
            subprocess.run(
                [plan.interpreter, "-m", "jupyter_aios.training.agent", str(plan_path), start],
                env=dict(os.environ) | dict(plan.environment),
                stdin=subprocess.DEVNULL if descriptor is None else descriptor,
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (plan_path.parent / "agent.log").read_text(errors="replace").strip()
            last = said.splitlines()[-1] if said else str(error)
            msg = f"{plan.interpreter} cannot start an agent: {last}"
            hint = f"{plan.interpreter} -m pip install jupyter-aios"
            raise UnavailableError(msg, hint=hint) from error
        finally:
            os.close(log)
        return start

    def _lay_out(self, folder: Path, code: Code) -> None:
        (folder / "code").mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "values").mkdir(mode=0o700, exist_ok=True)
        for file in code.files:
            target = folder / "code" / file.path
            shutil.copyfile(self._blobs.path(file.blob), target)
        for blob in value_blobs(code):
            target = folder / "values" / blob
            if not target.exists():
                os.link(self._blobs.path(blob), target)

    def _attempt_folder(self, ref: AttemptRef) -> Path:
        return self._jobs / ref.job_id / "attempts" / str(ref.number)

    def status(self, ref: AttemptRef) -> AttemptStatus:
        """Return what is known of an attempt, whoever launched it."""
        folder = self._attempt_folder(ref)
        watch = self._watches.setdefault(ref, AttemptWatch(ref, folder))
        if not watch.is_claimed:
            problem = self._pool.pending_failure(str(folder / PLAN_FILE))
            if problem:
                self.fence(ref)
                return watch.fail(_start_failure(problem))
        return watch.look()

    def fence(self, ref: AttemptRef) -> None:
        """Take the claim, unless an agent has it."""
        folder = self._attempt_folder(ref)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim(folder / CLAIM_FILE, FENCED)

    def stop(self, ref: AttemptRef, reason: StopReason) -> None:
        """Leave the order, and fence the attempt or wake its agent."""
        folder = self._attempt_folder(ref)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / STOP_FILE).exists():
            write_json(folder / STOP_FILE, {"reason": reason.value})
        self.fence(ref)
        claimed = read_json(folder / CLAIM_FILE)
        if claimed != FENCED:
            send(from_plain(ProcessIdentity, claimed), signal.SIGTERM)

    def read(self, job_id: JobId, cursor: Mapping[str, int], limit_bytes: int) -> EventBatch:
        """Return events of all attempts after `cursor`, oldest first within the batch."""
        return read(self._jobs, job_id, cursor, limit_bytes)

    def run_cell(self, ref: AttemptRef, cell: Cell) -> CellTicket:
        """Leave a cell for ranks that are kept."""
        return kept.order_cell(self._attempt_folder(ref), cell, self._lay_out)

    def interrupt_cell(self, ref: AttemptRef, number: int) -> None:
        """Leave the order to interrupt a cell."""
        kept.interrupt(self._attempt_folder(ref), number)

    def kept(self, ref: AttemptRef) -> KeptStatus:
        """Return what kept ranks have and are at."""
        return kept.kept_status(self._attempt_folder(ref))

    def _result_folder(self, ref: AttemptRef | CellRef) -> Path:
        if isinstance(ref, CellRef):
            return kept.results_of(self._attempt_folder(ref.attempt), ref)
        return self._attempt_folder(ref)

    def results(self, ref: AttemptRef | CellRef) -> tuple[Result, ...]:
        """Return what the attempt, or one rank in one cell, left for `pull`."""
        return results.load_index(self._result_folder(ref))

    def result_path(self, ref: AttemptRef | CellRef, name: str) -> Path:
        """Return the file of one result."""
        left = {result.name: result for result in self.results(ref)}
        if name not in left:
            raise UnknownNameError.among("result", name, left)
        if left[name].error:
            raise InputError(f"{name}: {left[name].error}", hint="see --pull and --pull-limit")
        return self._result_folder(ref) / "results" / f"{name}.{left[name].kind}"

    def warm(self, interpreter: str, environment: Mapping[str, str]) -> WarmStatus:
        """Begin to warm up for launches with this interpreter."""
        return self._pool.warm(WarmKey.of(interpreter, environment))

    def warm_processes(self) -> tuple[str, ...]:
        """Return one line per warm process."""
        return self._pool.describe()

    def discard(self, job_id: JobId) -> int:
        """Remove a finished job's files."""
        folder = self._jobs / job_id
        # Moved away first: an agent that comes too late for its claim would otherwise write into
        # the folder while it is being removed, and keep it alive.
        discarded = folder.with_name(f".discarded-{job_id}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(discarded)
        freed = sum(path.stat().st_size for path in discarded.rglob("*") if path.is_file())
        shutil.rmtree(discarded, ignore_errors=True)
        for ref in [ref for ref in list(self._watches) if ref.job_id == job_id]:
            self._watches.pop(ref, None)
        return freed

    def close(self) -> None:
        """End the warm processes; attempts go on."""
        self._pool.close()


def _start_failure(problem: str) -> Failure:
    return Failure(
        rank=None,
        kind="StartFailed",
        message=f"the warm process could not start the job: {problem}\n"
        "hint: %aios doctor tells whether torch can be imported, and what to type",
    )
