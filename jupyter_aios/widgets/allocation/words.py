"""How an allocation is told in words, the same in the view, the picture and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.allocation.levels import OBJECTIVES
from jupyter_aios.core.units import MILLI, format_bytes

if TYPE_CHECKING:
    from jupyter_aios.allocation.explain import Explanation
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.result import Allocation, Level

_LEAST_GAP = 5e-5
_PPM = 1_000_000


def percent(share: float) -> str:
    """Return a share in percent, with two digits that say something.

    Example:
        >>> percent(0.00243), percent(0.5), percent(0.0000001)
        ('0.24 %', '50 %', 'below 0.01 %')

    """
    if 0 < share < _LEAST_GAP:
        return "below 0.01 %"
    value = share * 100
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"  # noqa: PLR2004 - two digits


def milli(amount: int) -> str:
    """Return thousandths as a number with separators.

    Example:
        >>> milli(1_234_500), milli(250)
        ('1,234.5', '0.25')

    """
    whole, rest = divmod(amount, MILLI)
    return f"{whole:,}" + (f".{rest:03d}".rstrip("0") if rest else "")


def amount(name: str, value: int) -> str:
    """Return the value of an objective with its unit.

    Example:
        >>> amount("gpu", 5_432_250), amount("balance", 931_000), amount("moves", 1)
        ('5,432.25 GPUs', '93 %', '1 task')

    """
    if name in {"gpu", "fragmentation"}:
        return f"{milli(value)} {'GPU' if value == MILLI else 'GPUs'}"
    if name == "balance":
        return percent(value / _PPM)
    if name in {"moves", "feasible"}:
        return f"{value:,} {'task' if value == 1 else 'tasks'}"
    return f"{value:,}"


def count_of_tasks(count: int) -> str:
    """Return `1 task` or `1,234 tasks`."""
    return f"{count:,} {'task' if count == 1 else 'tasks'}"


def standing(level: Level) -> str:
    """Return a level with its bound and gap: `priority 61,250 of at most 61,400 (gap 0.24 %)`."""
    said = f"{level.name} {amount(level.name, level.value)}"
    if level.bound is None:
        return f"{said} (no bound known)"
    if not level.gap:
        return f"{said}, proven best"
    side = "of at most" if OBJECTIVES[level.name].is_maximised else "of at least"
    bound = amount(level.name, level.bound)
    return f"{said} {side} {bound} (gap {percent(level.gap)}, proven)"


def seconds(time_s: float) -> str:
    """Return how long a search took: `0.41 s`."""
    return f"{time_s:.2f} s" if time_s < 10 else f"{time_s:.0f} s"  # noqa: PLR2004 - two digits


def placed(allocation: Allocation) -> str:
    """Return `12 of 34 tasks placed`."""
    total = len(allocation.assignment)
    count = total - len(allocation.unplaced)
    return f"{count:,} of {count_of_tasks(total)} placed"


def headline(allocation: Allocation) -> str:
    """Return the allocation in one line: tasks, first level with bound and gap, rung, time."""
    first = allocation.levels[0]
    parts = [placed(allocation)]
    if first.name != "feasible":
        parts.append(standing(first))
    return " · ".join([*parts, allocation.rung, seconds(allocation.time_s)])


def meaning(allocation: Allocation) -> str:
    """Return in a sentence what the status says."""
    first, status = allocation.levels[0], allocation.status
    total = len(allocation.assignment)
    if status == "optimal":
        return f"No allocation has a better {first.name}: the bound is reached."
    if status == "infeasible":
        most = f": at most {first.bound:,} of {total:,}" if first.bound is not None else ""
        return f"It is proven that not every task can be placed{most}."
    if status == "undecided":
        most = f" At most {first.bound:,} can." if first.bound is not None else ""
        return f"It was not found out in time whether all {total:,} tasks can be placed.{most}"
    if first.name == "feasible":
        return "Every task is placed."
    if first.gap is None:
        return "It is valid. How much better another could be is not known."
    return f"It is valid, and no other is better by more than {percent(first.gap)}."


def later(allocation: Allocation) -> str:
    """Return the levels after the first in a sentence; nothing where there are none."""
    first, *rest = allocation.levels
    if not allocation.problem.tasks.is_in_force.any():
        rest = [level for level in rest if level.name != "moves"]
    if not rest:
        return ""
    said = ", ".join(_later_level(level) for level in rest)
    return f"Bound and gap are about {first.name}, which comes first. Then: {said}."


def _later_level(level: Level) -> str:
    said = f"{level.name} {amount(level.name, level.value)}"
    if level.name == "moves":
        said = f"{count_of_tasks(level.value)} moved or stopped"
    if level.bound is None:
        return said
    return f"{said} (proven best)" if not level.gap else f"{said} ({percent(level.gap)} from best)"


def demand(problem: Problem, task: int) -> str:
    """Return what a task needs: `2 GPUs, 8 CPUs, 32 GiB on A100`."""
    tasks = problem.tasks
    cpu, memory, disk = (int(value) for value in tasks.demand[task])
    parts = []
    if tasks.gpus[task]:
        size = int(tasks.gpu_milli[task])
        parts.append(f"{milli(size)} {'GPU' if size <= MILLI else 'GPUs'}")
    if cpu:
        parts.append(f"{milli(cpu)} {'CPU' if cpu <= MILLI else 'CPUs'}")
    if memory:
        parts.append(format_bytes(memory))
    if disk:
        parts.append(f"{format_bytes(disk)} of disk")
    zone = int(tasks.zone[task])
    where = problem.zone_names[zone] if 0 <= zone < len(problem.zone_names) else ""
    return (", ".join(parts) or "nothing") + (f" on {where}" if where else "")


def device_list(devices: tuple[int, ...]) -> str:
    """Return device numbers with runs drawn together: `0-3, 6`.

    Example:
        >>> device_list((0, 1, 2, 3, 6))
        '0-3, 6'

    """
    runs: list[list[int]] = []
    for device in devices:
        if runs and runs[-1][1] == device - 1:
            runs[-1][1] = device
        else:
            runs.append([device, device])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def explanation(told: Explanation) -> str:
    """Return why a task is left out, and what would mend it: a line each."""
    lines = [told.sentence]
    for fix in told.fixes:
        smallest = " (no smaller one of its kind does)" if fix.is_smallest else ""
        lines.append(f"Fix: {fix.sentence}{smallest}")
    return "\n".join(lines)


def names_of_jobs(problem: Problem) -> list[str]:
    """Return a name for each number of `Tasks.job`; a job of one task has the task's name."""
    tasks = problem.tasks
    jobs = tasks.job.tolist()
    names = list(tasks.job_names)
    if not names and len(set(jobs)) == len(jobs):
        of_job = dict(zip(jobs, tasks.names, strict=True))
        return [of_job.get(number, f"job {number}") for number in range(max(jobs, default=-1) + 1)]
    missing = range(len(names), max(jobs, default=-1) + 1)
    return [*names, *(f"job {number}" for number in missing)]
