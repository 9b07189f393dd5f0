from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.core.entities import (
    Backend,
    BlobId,
    Code,
    CodeKind,
    Resources,
    SourceFile,
    UserId,
)
from jupyter_aios.core.ports import Outcome
from jupyter_aios.core.states import JobState
from jupyter_aios.core.submission import JOB_ID
from jupyter_aios.core.wire import PruneRequest
from jupyter_aios.errors import (
    AiosError,
    CapacityError,
    InputError,
    StateError,
    UnknownNameError,
)
from tests.controller.rig import BLOB, ME, Rig, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.core.entities import Job

PROPOSED = "20261123-231502-a1b2c3"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home")


def finish(rig: Rig, job: Job) -> None:
    rig.turn()
    rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
    rig.turn()


def test_a_submission_is_stored_before_it_is_answered(rig: Rig) -> None:
    job = rig.submit(name="mnist")
    assert JOB_ID.fullmatch(job.id)
    assert rig.store.job(job.id) == job
    assert rig.controller.service.job("mnist", ME) == job


def test_the_same_id_again_is_the_same_job(rig: Rig) -> None:
    service = rig.controller.service
    first = service.submit(fake_spec(), ME, PROPOSED)
    finish(rig, first)
    again = service.submit(fake_spec(), ME, PROPOSED)
    assert (again.id, again.state) == (PROPOSED, JobState.SUCCEEDED)
    assert len(service.jobs(ME, (), None)) == 1


def test_the_id_of_somebody_else_s_job_is_refused(rig: Rig) -> None:
    rig.controller.service.submit(fake_spec(), UserId("bob"), PROPOSED)
    with pytest.raises(StateError, match="is taken"):
        rig.controller.service.submit(fake_spec(name="other"), ME, PROPOSED)


def test_an_id_that_is_none_is_refused(rig: Rig) -> None:
    with pytest.raises(InputError, match="is not a job's id"):
        rig.controller.service.submit(fake_spec(), ME, "../../etc/passwd")


def test_jobs_without_a_name_are_numbered(rig: Rig) -> None:
    first = rig.submit(name="")
    finish(rig, first)
    assert [first.name, rig.submit(name="").name] == ["train-1", "train-2"]


def test_a_name_is_free_again_when_its_job_is_over(rig: Rig) -> None:
    first = rig.submit(name="mnist")
    with pytest.raises(StateError, match="a job named 'mnist' is queued already") as caught:
        rig.submit(name="mnist")
    assert "%aios cancel mnist" in caught.value.hint
    finish(rig, first)
    second = rig.submit(name="mnist")
    assert rig.controller.service.job("mnist", ME).id == second.id


def test_cpus_that_were_not_asked_for_are_a_whole_share(rig: Rig) -> None:
    assert rig.submit(nodes=4).spec.resources.cpu_milli == 1000


BAD: list[tuple[dict[str, Any], type[AiosError], str]] = [
    ({"nodes": 0}, InputError, "--nodes 0: 1 to 4096"),
    ({"nodes": 10_000}, InputError, "--nodes 10000: 1 to 4096"),
    ({"nodes": 9}, CapacityError, "--nodes 9 wanted, 4 nodes exist"),
    ({"ranks_per_node": 0, "max_restarts": -1}, InputError, "2 faults: --nproc-per-node 0"),
    ({"name": "a b"}, InputError, "--name 'a b'"),
    ({"name": PROPOSED}, InputError, "not like a job's id"),
    ({"name": "x" * 65}, InputError, "up to 64 letters"),
    ({"timeout_s": 0.0}, InputError, "--timeout 0.0: above 0"),
    ({"interpreter": "/no/python"}, InputError, "the interpreter /no/python is not there"),
    ({"cwd": "/no/such/folder"}, InputError, "the working directory /no/such/folder is not there"),
    ({"resources": Resources(cpu_milli=-1)}, InputError, "--cpus, --memory and --gpus: 0 or more"),
    ({"resources": Resources(cpu_milli=1500)}, CapacityError, "1.5 CPUs per node wanted"),
    ({"backend": Backend.NCCL}, InputError, "--backend nccl needs a GPU per rank"),
    ({"engine": "faek"}, UnknownNameError, "no engine is named 'faek'"),
    (
        {"code": Code(CodeKind.SCRIPT, (SourceFile("a.py", BlobId("0" * 64), "a.py"),))},
        InputError,
        "1 files of the job are not here",
    ),
    (
        {"code": Code(CodeKind.SCRIPT, (SourceFile("../a.py", BLOB, "a.py"),))},
        InputError,
        "code file '../a.py': a relative path without ..",
    ),
]


@pytest.mark.parametrize(("changes", "kind", "message"), BAD)
def test_what_cannot_run_is_refused_and_nothing_is_stored(
    rig: Rig, changes: dict[str, Any], kind: type[AiosError], message: str
) -> None:
    service = rig.controller.service
    for ask in (service.submit, service.dry_run):
        with pytest.raises(kind) as caught:
            ask(fake_spec(**changes), ME)
        assert message in caught.value.message
    assert rig.store.find_jobs() == []


def test_a_dry_run_shows_the_plan_and_stores_nothing(rig: Rig) -> None:
    plan = rig.controller.service.dry_run(fake_spec(name="", nodes=2), ME)
    assert [rank.node for rank in plan.ranks] == ["v0", "v1"]
    assert plan.name == "train-1"
    assert rig.store.find_jobs() == []


def test_an_unknown_job_is_told_with_the_nearest_name(rig: Rig) -> None:
    rig.submit(name="mnist")
    with pytest.raises(UnknownNameError) as caught:
        rig.controller.service.job("mnits", ME)
    assert caught.value.hint == "did you mean mnist?"


def test_cancel_twice_is_harmless(rig: Rig) -> None:
    queued, running = rig.submit(), rig.submit(name="running", priority=1)
    service = rig.controller.service
    assert service.cancel(queued.id).state is JobState.CANCELLED
    assert service.cancel(queued.id).state is JobState.CANCELLED
    rig.turn()
    service.cancel(running.id)
    service.cancel(running.id)
    rig.fake.pass_time(10)
    rig.turn()
    assert service.cancel(running.id).state is JobState.CANCELLED


def test_results_are_those_that_the_job_has_listed(rig: Rig) -> None:
    job = rig.submit()
    service = rig.controller.service
    assert service.results(job) == ()
    rig.turn()
    rig.fake.attempt(rig.ref(job)).leave("weights", b"12345", kind="state")
    job = rig.job(job)
    assert [result.name for result in service.results(job)] == ["weights"]
    assert service.result_path(job, "weights").read_bytes() == b"12345"
    with pytest.raises(UnknownNameError):
        service.result_path(job, "../../../store.sqlite")


def finished_jobs(rig: Rig) -> list[Job]:
    jobs = []
    for number in range(3):
        jobs.append(rig.submit(name=f"job-{number}"))
        finish(rig, jobs[-1])
        rig.fake.pass_time(100)
    return jobs


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (PruneRequest(), []),
        (PruneRequest(keep=1), ["job-2"]),
        (PruneRequest(older_than_s=250), ["job-2", "job-1"]),
        (PruneRequest(names=("job-1",)), ["job-2", "job-0"]),
        (PruneRequest(keep=2, older_than_s=1000), ["job-2", "job-1", "job-0"]),
    ],
)
def test_prune_removes_what_was_meant_and_never_what_runs(
    rig: Rig, request_: PruneRequest, left: list[str]
) -> None:
    finished_jobs(rig)
    rig.submit(name="running")
    report = rig.controller.service.prune(ME, request_)
    names = [job.name for job in rig.controller.service.jobs(ME, (), None)]
    assert names == ["running", *left]
    assert len(report.jobs) == 3 - len(left)


def test_prune_of_an_unknown_name_removes_nothing(rig: Rig) -> None:
    finished_jobs(rig)
    with pytest.raises(UnknownNameError, match="no finished job is named 'job-9'"):
        rig.controller.service.prune(ME, PruneRequest(names=("job-1", "job-9")))
    assert len(rig.store.find_jobs()) == 3


def test_prune_keeps_the_blobs_of_jobs_that_stay(rig: Rig) -> None:
    import os

    blob = next((rig.home / "blobs").rglob(BLOB))
    os.utime(blob, (1, 1))
    job = rig.submit()
    os.utime(blob, (1, 1))
    rig.controller.service.prune(ME, PruneRequest())
    assert blob.exists()
    rig.controller.service.cancel(job.id)
    rig.controller.service.prune(ME, PruneRequest())
    assert not blob.exists()


def test_the_jobs_of_others_are_not_listed(rig: Rig) -> None:
    rig.controller.service.submit(fake_spec(), UserId("bob"))
    assert rig.controller.service.jobs(ME, (), None) == []
    with pytest.raises(UnknownNameError):
        rig.controller.service.job("train-1", ME)


def test_a_name_of_somebody_else_s_job_is_free(rig: Rig) -> None:
    rig.controller.service.submit(fake_spec(), UserId("bob"))
    assert rig.submit(name="train-1").owner == ME


def test_hello_counts_jobs(rig: Rig) -> None:
    rig.submit(nodes=4)
    rig.submit(name="second")
    rig.turn()
    hello = rig.controller.service.hello()
    assert (hello.jobs_running, hello.jobs_queued) == (1, 1)
    assert replace(hello, free_bytes=1).home == str(rig.home)
