"""Whether a tree of processes may go on by itself, from readings that the test makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_aios.training.doctor.hope import Pulse, outlook
from jupyter_aios.training.doctor.signs import LOADER_NAME, Process, Thread, Wait


def process(
    wait: Wait, *others: Wait, pid: int = 1, name: str = "python", is_watcher: bool = False
) -> Process:
    threads = tuple(
        Thread(100 * pid + index, name if index == 0 else "python", one, 5, "202 0x1")
        for index, one in enumerate((wait, *others))
    )
    return Process(pid, 0, 7, 100, threads, 0, is_watcher=is_watcher)


def worker(wait: Wait, *others: Wait, pid: int = 2) -> Process:
    return process(wait, *others, pid=pid, name=LOADER_NAME)


def ran(one: Process, index: int = 0) -> Process:
    """Return the process as it is after one of its threads has run once."""
    threads = list(one.threads)
    threads[index] = replace(threads[index], switches=6)
    return replace(one, threads=tuple(threads))


def seen(*tree: Process) -> Pulse:
    return outlook(tree, tree, 1.0).pulse


def test_a_lock_that_nobody_can_release_leaves_no_hope() -> None:
    assert seen(process(Wait.LOCK)) is Pulse.STILL
    assert seen(process(Wait.LOCK, Wait.LOCK, Wait.WATCHING)) is Pulse.STILL
    assert seen(process(Wait.LOCK), process(Wait.BUSY, pid=3, is_watcher=True)) is Pulse.STILL


@pytest.mark.parametrize("wait", [Wait.BUSY, Wait.SOCKET, Wait.TIMED_LOCK, Wait.TRACED])
def test_who_sleeps_reads_or_is_being_debugged_has_hope(wait: Wait) -> None:
    assert seen(process(wait)) is Pulse.HOPE


@pytest.mark.parametrize("wait", [Wait.BUSY, Wait.SOCKET, Wait.LOADER_POLL])
def test_a_lock_has_hope_while_another_thread_or_process_may_release_it(wait: Wait) -> None:
    assert seen(process(Wait.LOCK, wait)) is Pulse.HOPE
    assert seen(process(Wait.LOCK), process(wait, pid=2)) is Pulse.HOPE


def test_who_has_run_meanwhile_has_hope() -> None:
    one = process(Wait.LOCK, Wait.LOCK)
    assert outlook((one,), (ran(one),), 1.0).pulse is Pulse.HOPE
    assert outlook((one,), (ran(one, 1),), 1.0).pulse is Pulse.HOPE


def test_a_first_reading_says_nothing() -> None:
    assert outlook((), (process(Wait.LOCK),), 1.0).pulse is Pulse.HOPE


def test_a_tree_that_takes_processor_time_has_hope() -> None:
    # gloo's thread, which moves bytes, is a watcher otherwise.
    before = process(Wait.LOCK, Wait.WATCHING)
    assert outlook((before,), (replace(before, cpu_ticks=130),), 1.0).pulse is Pulse.HOPE
    assert outlook((before,), (replace(before, cpu_ticks=101),), 1.0).pulse is Pulse.STILL


def test_a_side_thread_with_a_time_limit_is_counted_for_the_stacks_to_explain() -> None:
    tree = (process(Wait.LOCK, Wait.TIMED_LOCK),)
    assert outlook(tree, tree, 1.0).timed == 1


def test_a_loader_whose_worker_waits_for_a_lock_is_starved() -> None:
    for wait in (Wait.LOADER_POLL, Wait.TIMED_LOCK, Wait.SOCKET):
        found = outlook((process(wait), worker(Wait.LOCK)), (process(wait), worker(Wait.LOCK)), 1.0)
        assert found.pulse is Pulse.STARVED
        assert [one.pid for one in found.suspects] == [2]
    assert seen(process(Wait.LOADER_POLL), worker(Wait.STOPPED)) is Pulse.STARVED


@pytest.mark.parametrize("wait", [Wait.BUSY, Wait.SOCKET])
def test_a_loader_with_a_worker_that_sleeps_or_reads_has_hope(wait: Wait) -> None:
    assert seen(process(Wait.LOADER_POLL), worker(wait)) is Pulse.HOPE
    one, other = worker(Wait.LOCK), worker(wait, pid=3)
    assert seen(process(Wait.LOADER_POLL), one, other) is Pulse.HOPE


def test_a_loader_whose_workers_are_idle_has_hope() -> None:
    assert seen(process(Wait.LOADER_POLL), worker(Wait.LOADER_POLL)) is Pulse.HOPE


def test_the_stopped_and_the_gone_are_told_apart() -> None:
    assert seen(process(Wait.STOPPED)) is Pulse.STOPPED
    assert outlook((process(Wait.LOCK),), (), 1.0).pulse is Pulse.GONE
