"""How much one may hold at once and use up: quotas, what is used of them, and what is too much.

GPU-hours are reserved before they are used: a job with a time limit reserves its GPUs for all the
time that it may take (restarts included), any other one hour. When that hour is used up the next
counts as reserved, and so on; nothing is stopped for it. When the job is over, what it really ran
is charged and the reservation is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.roles import Role
from jupyter_aios.core.units import format_bytes
from jupyter_aios.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.core.entities import Attempt, JobSpec, UserId
    from jupyter_aios.core.policy import Member

HOUR_S = 3600.0
_GIB = 2**30
_ROUNDING_HOURS = 1e-9


@dataclass(frozen=True)
class Quota:
    """The most that one holder may have; None is no limit."""

    ranks: int | None = None
    """At once, waiting jobs included."""
    gpu_hours: float | None = None
    """Altogether."""
    jobs: int | None = None
    """At once, waiting jobs included."""
    priority: int | None = None
    """The highest that a job may have."""
    disk_bytes: int | None = None
    """That jobs ask for, at once."""


UNLIMITED = Quota()

DEFAULT_QUOTAS: Mapping[Role, Quota] = {
    Role.ADMIN: UNLIMITED,
    Role.TEACHER: Quota(ranks=64, jobs=64, priority=100, disk_bytes=1024 * _GIB),
    Role.STUDENT: Quota(ranks=8, gpu_hours=20.0, jobs=4, priority=0, disk_bytes=64 * _GIB),
    Role.GUEST: Quota(ranks=0, gpu_hours=0.0, jobs=0, priority=0, disk_bytes=0),
}
"""Of a person whom nobody gave a quota. A group has no limit until somebody sets one."""


@dataclass(frozen=True)
class Usage:
    """What a holder has at once, and the GPU-hours used up and reserved."""

    ranks: int = 0
    gpu_hours: float = 0.0
    jobs: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Demand:
    """What one more job asks of a quota."""

    ranks: int
    gpu_milli: int
    """Thousandths of GPUs, of all nodes together."""
    gpu_s: float
    """GPU-seconds to reserve."""
    priority: int
    disk_bytes: int

    @classmethod
    def of(cls, spec: JobSpec) -> Demand:
        """Return what a job asks for.

        Example:
            >>> from jupyter_aios.testing.examples import example_spec
            >>> Demand.of(example_spec(nodes=2, ranks_per_node=4)).ranks
            8

        """
        gpu_milli = spec.nodes * spec.resources.gpu_milli
        longest_s = HOUR_S
        if spec.timeout_s is not None:
            longest_s = spec.timeout_s * (1 + spec.max_restarts)
        return cls(
            ranks=spec.world_size,
            gpu_milli=gpu_milli,
            gpu_s=gpu_milli / 1000 * longest_s,
            priority=spec.priority,
            disk_bytes=spec.nodes * spec.resources.disk_bytes,
        )


@dataclass(frozen=True)
class Limit:
    """A quota and who has it together: `user:NAME`, or all members of `group:NAME`."""

    holder: str
    quota: Quota


def user_holder(user: UserId) -> str:
    """Return the name under which a person's quota and usage are kept."""
    return f"user:{user}"


def holders_of(member: Member) -> tuple[str, ...]:
    """Return everybody on whose account the member's jobs go: themselves, then their groups."""
    return (user_holder(member.user), *(f"group:{group}" for group in sorted(set(member.groups))))


def limits_of(member: Member, quotas: Mapping[str, Quota]) -> tuple[Limit, ...]:
    """Return the quotas that hold for a member, out of those that were set; all of them count.

    Example:
        >>> from jupyter_aios.core.policy import Member
        >>> ada = Member("ada", Role.STUDENT, ("ml",))
        >>> [limit.quota.ranks for limit in limits_of(ada, {"group:ml": Quota(ranks=4)})]
        [8, 4]

    """
    own, *groups = holders_of(member)
    return (
        Limit(own, quotas.get(own, DEFAULT_QUOTAS[member.role])),
        *(Limit(group, quotas.get(group, UNLIMITED)) for group in groups),
    )


def faults(quota: Quota, usage: Usage, demand: Demand) -> list[str]:
    """Return what the quota does not allow, a phrase with figures each; empty where it fits.

    What a job does not ask for is no fault, however much of it has been used.

    Example:
        >>> faults(Quota(ranks=10), Usage(ranks=6), Demand(8, 0, 0.0, 0, 0))
        ['8 ranks wanted, 4 of 10 left']

    """
    found = []
    if quota.ranks is not None and usage.ranks + demand.ranks > quota.ranks:
        left = max(quota.ranks - usage.ranks, 0)
        found.append(f"{_counted(demand.ranks, 'rank')} wanted, {left} of {quota.ranks} left")
    if quota.jobs is not None and usage.jobs + 1 > quota.jobs:
        found.append(f"1 more job wanted, {usage.jobs} of {quota.jobs} at once are there")
    if quota.gpu_hours is not None and demand.gpu_s > 0:
        hours = demand.gpu_s / HOUR_S
        left_hours = max(quota.gpu_hours - usage.gpu_hours, 0.0)
        if hours > left_hours + _ROUNDING_HOURS:
            found.append(
                f"{hours:.4g} GPU-hours wanted, {left_hours:.4g} of {quota.gpu_hours:.4g} left"
            )
    if quota.priority is not None and demand.priority > quota.priority:
        found.append(f"priority {demand.priority} wanted, {quota.priority} is the highest")
    if quota.disk_bytes is not None and 0 < demand.disk_bytes > quota.disk_bytes - usage.disk_bytes:
        left_bytes = format_bytes(max(quota.disk_bytes - usage.disk_bytes, 0))
        found.append(
            f"{format_bytes(demand.disk_bytes)} of disk wanted,"
            f" {left_bytes} of {format_bytes(quota.disk_bytes)} left"
        )
    return found


def refuse_excess(used: Iterable[tuple[Limit, Usage]], demand: Demand) -> None:
    """Return where a demand fits into every quota; the tightest counts.

    Raises:
        DeniedError: it does not; all that is too much is listed.

    """
    found = [
        f"the quota of {limit.holder}: {'; '.join(wrong)}"
        for limit, usage in used
        if (wrong := faults(limit.quota, usage, demand))
    ]
    if found:
        raise DeniedError("; ".join(found), hint="ask your teacher or an admin for more")


def run_s(attempts: Iterable[Attempt], at: float) -> float:
    """Return how many seconds a job's attempts have run until `at`."""
    return sum(
        max((attempt.ended_at if attempt.ended_at is not None else at) - attempt.started_at, 0.0)
        for attempt in attempts
    )


def held_gpu_s(reserved_s: float, gpu_milli: int, ran_s: float) -> float:
    """Return the GPU-seconds that a live job holds: what it reserved, or the hours it has begun.

    Example:
        >>> held_gpu_s(7200.0, 2000, 1800.0), held_gpu_s(7200.0, 2000, 3601.0)
        (7200.0, 14400.0)

    """
    gpus = gpu_milli / 1000
    if gpus * ran_s <= reserved_s:
        return reserved_s
    return gpus * HOUR_S * math.ceil(ran_s / HOUR_S)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
