"""What a launch takes beside its plan: a permit, secrets, and sockets that stand in for secrets.

Decided anew for each attempt, at the moment it starts. The sockets are the controller's, so they
end with it; `reconcile` makes those of running attempts again, and closes those of ended ones.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.controller.fetching import FetchProxy
from jupyter_aios.controller.ssh_broker import SOCKET_FILE, SshBroker, parse_private_key
from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import Resources
from jupyter_aios.core.policy import Action, ActorKind, Resource
from jupyter_aios.core.ports import AttemptRef
from jupyter_aios.core.secrets import SecretClass
from jupyter_aios.errors import AiosError, LockedError, UnknownNameError
from jupyter_aios.training.admission import permitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from jupyter_aios.controller.access import Gate
    from jupyter_aios.controller.keeper import Keeper
    from jupyter_aios.controller.secrets import Secrets
    from jupyter_aios.core.entities import Job, UserId
    from jupyter_aios.core.policy import Actor
    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.core.secrets import Secret, SecretInfo, SecretUse

log = logging.getLogger(__name__)

SSH_VARIABLE = "SSH_AUTH_SOCK"
FETCH_VARIABLE = "AIOS_FETCH_SOCKET"
FETCH_FILE = "fetch.sock"
JOBS_FOLDER = "jobs"
"""Beside the controller's own socket, a folder per attempt in it."""
_MAX_RESOURCE_LENGTH = 200
WAITS = "waits for the vault: %aios unlock"


class Launching:
    """Completes plans. `folder` is where sockets lie; `permits` demands one for every launch."""

    def __init__(
        self,
        *,
        keeper: Keeper,
        secrets: Secrets,
        gate: Gate,
        clock: Callable[[], float],
        folder: Path,
        permits: bool = False,
    ) -> None:
        self._keeper = keeper
        self._secrets = secrets
        self._gate = gate
        self._clock = clock
        self.folder = folder
        self.permits = permits
        self._open: dict[AttemptRef, ExitStack] = {}

    def check(self, owner: UserId, uses: Sequence[SecretUse]) -> None:
        """Return where a submission may ask for these secrets, as far as can be told now.

        While the vault is locked nothing can: then it is told when the job's turn comes.

        Raises:
            DeniedError, UnknownNameError, InputError: as `Secrets.check_use`.

        """
        if self._keeper.is_open:
            actor = self._gate.actor(owner, ActorKind.LOCAL)
            for use in uses:
                self._check_one(actor, use)

    def _check_one(self, actor: Actor, use: SecretUse) -> None:
        try:
            self._secrets.check_use(actor, use)
        except UnknownNameError as error:
            if use.owner and use.owner != actor.user:
                # Who looks for others' secrets leaves a trace, as by every other way.
                self._note_search(actor, use, error.message)
            raise

    def why_wait(self, job: Job) -> str:
        """Return why a job cannot be launched yet, or an empty text."""
        needs_vault = bool(job.spec.secrets) or self.permits
        return WAITS if needs_vault and not self._keeper.is_open else ""

    def complete(self, job: Job, plan: LaunchPlan) -> tuple[LaunchPlan, dict[str, Secret]]:
        """Return the plan with sockets and permit, and the secrets that the ranks may see.

        Raises:
            LockedError: the vault was locked a moment ago.
            DeniedError: the job's owner may not submit, or not use one of the secrets, any more.
            UnknownNameError: one of them is gone.

        """
        values: dict[str, Secret] = {}
        actor = self._actor(job)
        # The role may have been taken away while the job waited.
        self._gate.check(actor, Action.JOB_SUBMIT, Resource("job", job.id, job.owner))
        if job.spec.secrets:
            ref = AttemptRef(plan.job_id, plan.attempt)
            delivery = self._secrets.deliver(actor, job.spec.secrets, self._noter(actor, job))
            values = delivery.injected
            self._serve(ref, job, delivery.brokered, delivery.fetched)
            environment = dict(plan.environment)
            if delivery.brokered:
                environment[SSH_VARIABLE] = str(self._place(ref) / "ssh" / SOCKET_FILE)
            if delivery.fetched:
                environment[FETCH_VARIABLE] = str(self._place(ref) / FETCH_FILE)
            plan = replace(plan, environment=tuple(sorted(environment.items())))
        return self._permitted(job, plan), values

    def _permitted(self, job: Job, plan: LaunchPlan) -> LaunchPlan:
        if not self.permits:
            return plan
        seed = self._keeper.permit_seed()
        if seed is None:
            raise LockedError("the vault is locked: no permit can be signed", hint="%aios unlock")
        total = Resources()
        for _ in range(job.spec.nodes):
            total += job.spec.resources
        return permitted(plan, seed, user=job.owner, resources=total, now=self._clock())

    # ---------------------------------------------------------------- sockets

    def reconcile(self, holding: Iterable[Job]) -> None:
        """Have sockets for exactly those attempts that hold nodes and need some."""
        wanted = {AttemptRef(job.id, job.attempt): job for job in holding if job.spec.secrets}
        for ref in [ref for ref in self._open if ref not in wanted]:
            self._open.pop(ref).close()
        if not self._keeper.is_open:
            return
        for ref, job in wanted.items():
            if ref not in self._open:
                self._open_again(ref, job)

    def _open_again(self, ref: AttemptRef, job: Job) -> None:
        """Serve an attempt that an earlier controller launched, as far as it still may."""
        actor, brokered, fetched = self._actor(job), {}, {}
        for use in job.spec.secrets:
            try:
                info = self._secrets.check_use(actor, use)
            except AiosError as error:
                log.info("job %s goes on without %s: %s", job.id, use.name, error.message)
                continue
            if info.kind is SecretClass.BROKER:
                brokered[use.name] = info
            elif info.kind is SecretClass.DERIVED:
                fetched[use.name] = info
        try:
            self._serve(ref, job, brokered, fetched)
        except (AiosError, OSError) as error:
            log.warning("job %s has no sockets: %s", job.id, error)
            self._open[ref] = ExitStack()  # said once

    def _serve(
        self,
        ref: AttemptRef,
        job: Job,
        brokered: dict[str, SecretInfo],
        fetched: dict[str, SecretInfo],
    ) -> None:
        note = self._noter(self._actor(job), job)
        # Also without sockets: an attempt that is known is not looked at again.
        with ExitStack() as stack:
            place = self._place(ref)
            if brokered or fetched:
                place.parent.mkdir(mode=0o700, exist_ok=True)
                place.mkdir(mode=0o700, exist_ok=True)
                stack.callback(_remove, place)
            if brokered:
                keys = {
                    name: parse_private_key(self._secrets.value(info))
                    for name, info in brokered.items()
                }

                def on_sign(name: str, detail: str, *, is_allowed: bool) -> None:
                    note(Action.SECRET_USE, brokered[name], is_allowed, detail)

                broker = SshBroker(
                    place / "ssh",
                    keys,
                    may_use=lambda name: self._may_use(job, brokered[name]),
                    on_use=on_sign,
                )
                stack.callback(broker.close)
            if fetched:
                is_allowed = True
                proxy = FetchProxy(
                    place / FETCH_FILE,
                    fetched,
                    value_of=self._secrets.value,
                    may_use=lambda info: self._may_use(job, info),
                    on_use=lambda info, what: note(Action.SECRET_USE, info, is_allowed, what),
                )
                proxy.start()
                stack.callback(proxy.close)
            self._open[ref] = stack.pop_all()

    def _may_use(self, job: Job, info: SecretInfo) -> bool:
        """Whether the job's owner may use the secret at this moment; a locked vault says no."""
        try:
            now = self._secrets.find(info.owner, info.name)
            self._secrets.check(self._actor(job), now)
        except AiosError:
            return False
        return True

    def _place(self, ref: AttemptRef) -> Path:
        return self.folder / JOBS_FOLDER / f"{ref.job_id}-{ref.number}"

    # ---------------------------------------------------------------- who, and the audit

    def _note_search(self, actor: Actor, use: SecretUse, message: str) -> None:
        row = AuditRow(
            at=self._clock(),
            user=actor.user,
            action=Action.SECRET_USE.value,
            resource=f"secret:{use.owner}/{use.name}"[:_MAX_RESOURCE_LENGTH],
            is_allowed=False,
            reason=f"for a job: {message}"[:_MAX_RESOURCE_LENGTH],
        )
        self._gate.record(row, must_succeed=False)

    def _actor(self, job: Job) -> Actor:
        """The job's owner with the role of this moment."""
        return self._gate.actor(job.owner, ActorKind.LOCAL)

    def _noter(self, actor: Actor, job: Job) -> Callable[[Action, SecretInfo, bool, str], None]:
        def note(action: Action, info: SecretInfo, is_allowed: bool, reason: str) -> None:  # noqa: FBT001
            row = AuditRow(
                at=self._clock(),
                user=actor.user,
                action=action.value,
                resource=f"secret:{info.owner}/{info.name}",
                is_allowed=is_allowed,
                reason=f"job {job.id}: {reason}",
            )
            self._gate.record(row, must_succeed=is_allowed)

        return note

    def close(self) -> None:
        """End all sockets; jobs that need one find it closed until the next controller."""
        for stack in self._open.values():
            stack.close()
        self._open.clear()


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        log.debug("%s stays: %s", folder, error.strerror)
