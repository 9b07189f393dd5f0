"""The verb and the function: what may be said, what is placed, what the answer can be asked."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jupyter_aios as aios
from jupyter_aios.allocation.assignment import AssignmentProblem
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.reading import read, read_text
from jupyter_aios.commands import tree
from jupyter_aios.commands.__main__ import main
from jupyter_aios.commands.answer import AllocationAnswer, AssignmentAnswer
from jupyter_aios.commands.solving import (
    AllocateOptions,
    solve,
    stop_on_interrupt,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import InputError, UnknownNameError
from tests.fake_client import FakeClient, FakePlace, job, node

DOCS = Path(__file__).parents[2] / "docs" / "allocation-input.md"
CLUSTER = """\
nodes: {count: 2, cpus: 8, memory: 32GiB, gpus: 2, model: A100}
tasks:
  - {name: llm, gang: 2, gpus: 2, cpus: 2, priority: 5}
  - {name: notebook, count: 3, gpus: 0.5, cpus: 1}
"""
COSTS = "r: [3, 5, 2]\nc: [6, 5]\ncost: [[1, 2], [3, 1], [2, 2]]"


@pytest.fixture(scope="module")
def cluster() -> AllocationAnswer:
    return solve(read(CLUSTER), AllocateOptions(time_limit_s=20.0, compare=True))


def typed(line: str, namespace: dict[str, Any] | None = None, **of_client: Any) -> Any:
    place = FakePlace(fake=FakeClient(**of_client), namespace=namespace)
    return tree.run(line.split(), place)


# ------------------------------------------------------------------------------- what is placed


def test_a_file_is_placed_and_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text(CLUSTER, encoding="utf-8")
    assert main(["allocate", str(path), "--time-limit", "2", "--compare"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 5 tasks placed" in shown
    assert "notebook × 3" in shown
    assert "first-fit" in shown


@pytest.mark.parametrize("number", range(5))
def test_every_documented_example_can_be_placed(number: int) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    answer = aios.allocate(examples[number], time_limit_s=20)
    found = answer.allocation
    assert faults(answer.problem, found.assignment, found.devices) == []
    assert (found.status == "infeasible") == (number == 0)
    assert (found.assignment >= 0).any()


def test_the_usual_time_grows_with_very_many_tasks_and_a_said_one_does_not() -> None:
    assert AllocateOptions().limit_s(8_000) == 5.0
    assert AllocateOptions().limit_s(1_000_000) == 50.0
    assert AllocateOptions(time_limit_s=2.0).limit_s(1_000_000) == 2.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("allocate", "there is nothing to place"),
        ("allocate nowhere.yaml", "nowhere.yaml: No such file"),
        ("allocate a.yaml --live", "FILE and --live: one of them says what is to be placed"),
        ("allocate --nodes-csv n.csv", "--tasks-csv is missing"),
        ("allocate --tasks-csv n.csv", "--nodes-csv is missing"),
        ("allocate --nodes-csv n.csv --tasks-csv t.csv", "n.csv: No such file"),
        ("allocate a b", "more than expected: b"),
        ("allocate a --objective speed", "--objective speed: no objective is named 'speed'"),
        ("allocate a --objective moves", "--objective moves: no order of objectives"),
        ("allocate a --objective gpu,gpu", "--objective gpu,gpu: no order"),
        ("allocate a --objective gpu,moves,moves", "an objective is named twice"),
        ("allocate a --objective feasible,moves", "feasible stands alone"),
        ("allocate a --objective ,", "no order of objectives"),
        ("allocate a --time-limit 0", "--time-limit 0: '0' is not a positive duration"),
        ("allocate a --time-limit soon", "--time-limit soon: 'soon' is not a duration"),
        ("allocate a --time-limit 2d", "--time-limit 2d: above a day"),
        ("allocate a --seed x", "--seed x: a whole number"),
        ("allocate a --seed 4294967296", "--seed 4294967296: a whole number from 0"),
        ("allocate a --nodes frame --tasks frame", "no option of %aios allocate is named"),
        ("allocate a --seed -1 --time-limit 0", "2 faults: --time-limit 0.*; --seed -1"),
    ],
)
def test_what_cannot_be_meant_is_told_shortly(line: str, message: str) -> None:
    if "frame" in line:
        message = "FILE and --nodes and --tasks: one of them"
    with pytest.raises(InputError, match=message):
        typed(line)


def test_options_of_notebooks_are_not_there_in_a_terminal() -> None:
    place = FakePlace(fake=FakeClient(), prefix="jupyter aios")
    for option in ("--nodes", "--view", "--name"):
        with pytest.raises(UnknownNameError, match=f"is named '{option}'"):
            tree.run(["allocate", "a.yaml", option, "x"], place)
    assert "--live" in str(tree.run(["allocate", "-h"], place))


def test_faults_of_a_file_come_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text("nodes: {cpus: x}\ntasks: {cpus: -1}", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: cpus: x is no number; line 2: cpus: -1"):
        typed(f"allocate {path}")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no text in UTF-8"):
        typed(f"allocate {path}")


def test_a_trace_is_placed(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn,8000,1024,2,T4\n")
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"
    (tmp_path / "t.csv").write_text(head + "a,1000,1,1,1000,,LS\nb,1000,1,1,600,T4,BE\n")
    found = typed(
        f"allocate --nodes-csv {tmp_path}/n.csv --tasks-csv {tmp_path}/t.csv --time-limit 2"
        " --objective gpu"
    )
    assert found.allocation.objective == 1600


def test_the_live_cluster_places_what_waits_beside_what_runs() -> None:
    here = [job(nodes=1, name="runs"), job(JobState.QUEUED, nodes=2, name="waits")]
    found = typed("allocate --live --time-limit 1", jobs_here=here, nodes_here=[node("v0")])
    assert list(found.problem.tasks.names) == ["runs", "waits-0", "waits-1"]
    assert found.allocation.assignment.tolist() == [0, -1, -1]
    with pytest.raises(InputError, match="no job runs or waits"):
        typed("allocate --live")


def test_tables_of_a_terminal_do_not_exist_and_variables_are_looked_up() -> None:
    with pytest.raises(UnknownNameError, match="no variable is named 'machnes'"):
        typed("allocate --nodes machnes --tasks jobs", {"machines": 1, "jobs": 1})
    with pytest.raises(InputError, match="--tasks is missing"):
        typed("allocate --nodes machines", {"machines": {"cpus": 1}})
    given = {"machines": [{"cpus": 4}], "jobs": [{"name": "a", "cpus": 3}]}
    found = typed("allocate --nodes machines --tasks jobs --name told --time-limit 1", given)
    assert given["told"] is found
    with pytest.raises(InputError, match="not a variable's name"):
        typed("allocate --nodes machines --tasks jobs --name 1a", given)


# ------------------------------------------------------------------------------- the answer


def test_an_answer_has_what_is_asked_of_it(cluster: AllocationAnswer) -> None:
    found = cluster.allocation
    assert faults(cluster.problem, found.assignment, found.devices) == []
    assert found.assignment.tolist()[2:] == [-1, -1, -1]
    assert found.status == "optimal"
    assert len(cluster.table()) == 5
    assert [row.placed for row in cluster.table("jobs")] == [2, 0]
    assert len(cluster.table("nodes")) == 2
    assert len(cluster.table("policies")) == 1 + len(cluster.comparison)
    assert {one.rung for one in cluster.comparison} > {"fgd", "best-fit", "first-fit"}
    with pytest.raises(UnknownNameError, match="no table is named 'task'"):
        cluster.table("task")
    assert repr(cluster) == str(cluster.text())


def test_an_answer_says_why_a_task_or_a_job_is_left_out(cluster: AllocationAnswer) -> None:
    by_job = cluster.explain("notebook")
    assert by_job.explanation is not None
    assert by_job.explanation.task == 2
    assert "→" in by_job
    assert cluster.explain("notebook-1") == cluster.explain(3)
    assert cluster.explain("llm").explanation is not None
    with pytest.raises(UnknownNameError, match="no task or job is named 'notebok'"):
        cluster.explain("notebok")
    for wrong in (5, -1):
        with pytest.raises(InputError, match=f"there is no task number {wrong}"):
            cluster.explain(wrong)


def test_an_answer_says_what_would_be_with_another_node(cluster: AllocationAnswer) -> None:
    told = cluster.what_if(add_nodes=1)
    assert "1 more" in told
    assert told.answer.allocation.unplaced.tolist() == []
    assert len(told.answer.problem.nodes) == 3
    same = cluster.what_if(add_nodes={"A100": 1})
    assert same.answer.allocation.objective == told.answer.allocation.objective
    stopped = cluster.what_if(remove="llm").answer.allocation
    assert (stopped.assignment[2:] >= 0).all()
    with pytest.raises(UnknownNameError, match="no node or GPU model is named 'H100'"):
        cluster.what_if(add_nodes={"H100": 1})
    with pytest.raises(InputError, match="nothing is different"):
        cluster.what_if()


def test_a_picture_of_an_answer_can_be_drawn(cluster: AllocationAnswer) -> None:
    assert cluster.figure().axes
    assert cluster.view() is cluster.view()


# ------------------------------------------------------------------------------- from Python


def test_python_takes_text_files_mappings_tables_and_problems(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("r: [3, 5, 2]\nc: [6, 5]", encoding="utf-8")
    told: list[Any] = [
        {"r": [3, 5, 2], "c": [6, 5]},
        "r: [3, 5, 2]\nc: [6, 5]",
        path,
        str(path),
    ]
    for what in told:
        answer = aios.allocate(what, time_limit_s=20)
        assert answer.allocation.status == "feasible"
    one = aios.allocate(read_text("r: [3]\nc: [2]"), objective="feasible", time_limit_s=20)
    assert one.allocation.status == "infeasible"
    two = aios.allocate(nodes={"cpus": 4}, tasks=[{"cpus": 3}, {"cpus": 2}], time_limit_s=1)
    assert two.allocation.assignment.tolist() == [0, -1]


def test_python_is_told_what_it_cannot_mean() -> None:
    with pytest.raises(InputError, match="there are no nodes; there are no tasks"):
        aios.allocate()
    with pytest.raises(InputError, match="the problem is said twice"):
        aios.allocate({"r": [1], "c": [1]}, tasks=[])
    with pytest.raises(InputError, match=r"nan.* is not a duration"):
        aios.allocate({"r": [1], "c": [1]}, time_limit_s=float("nan"))
    with pytest.raises(InputError, match="a whole number from 0"):
        aios.allocate({"r": [1], "c": [1]}, seed=-1)
    with pytest.raises(InputError, match="there are no costs"):
        aios.allocate({"r": [1], "c": [1]}, objective="cost")
    with pytest.raises(InputError, match=r"nowhere: No such file"):
        aios.allocate("nowhere")


# ------------------------------------------------------------------------------- costs


def test_costs_are_solved_as_generalized_assignment() -> None:
    answer = solve(read(COSTS), AllocateOptions(time_limit_s=20.0))
    assert isinstance(answer, AssignmentAnswer)
    assert (answer.allocation.objective, answer.allocation.status) == (4, "optimal")
    assert answer.solution.objective == 4
    assert "cost 4, proven best" in str(answer.text())
    assert (
        answer.explain("task 2") == "task 2 is on node 2 at a cost of 1; no node is cheaper for it"
    )
    with pytest.raises(InputError, match="without costs"):
        answer.what_if(add_nodes=1)


def test_a_dearer_node_is_explained_by_the_room_of_the_cheaper_one() -> None:
    given = {"r": [2, 2], "c": [3, 2], "cost": [[1, 5], [1, 9]]}
    answer = aios.allocate(given, time_limit_s=20)
    assert answer.explain("task 1") == (
        "task 1 is on node 2 at a cost of 5; node 1 would cost 1 and has 1 left"
        " of the 2 that it would take"
    )


def test_what_cannot_be_assigned_is_said_to_be_so() -> None:
    answer = aios.allocate({"r": [3, 3], "c": [5], "cost": [[1], [1]]}, time_limit_s=20)
    assert answer.allocation.status == "infeasible"
    assert len(answer.allocation.unplaced) == 2
    assert "no assignment of all tasks was found" in answer.explain(0)
    assert "cost 0, proven" not in str(answer.text())


def test_demands_that_depend_on_the_node_are_drawn_as_they_are_there() -> None:
    table = np.array([[1, 4], [4, 1]])
    names = (("a", "b"), ("x", "y"))
    answer = aios.allocate(
        AssignmentProblem(table, table, np.array([2, 2]), *names), time_limit_s=1
    )
    assert answer.problem.tasks.demand[:, 0].tolist() == [1000, 1000]
    found = answer.allocation
    assert faults(answer.problem, found.assignment, found.devices) == []


def test_costs_take_no_other_objective_and_no_comparison() -> None:
    with pytest.raises(InputError, match="--objective gpu: the input has costs"):
        solve(read(COSTS), AllocateOptions(objective="gpu"))
    with pytest.raises(InputError, match="--compare"):
        solve(read(COSTS), AllocateOptions(compare=True))


# ------------------------------------------------------------------------------- interrupts


def test_an_interrupt_is_a_word_first_and_an_exception_the_second_time() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_can_allocate_and_hear_no_interrupts() -> None:
    said = []

    def ask() -> None:
        with stop_on_interrupt() as stop:
            said.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert said == [False]


def test_an_interrupted_search_gives_its_best_so_far() -> None:
    """It would go on for minutes; the interrupt comes as soon as the search can hear it."""
    draw = random.Random(7)
    tasks = [{"cpus": draw.randint(100, 999), "value": draw.randint(1, 99)} for _ in range(400)]
    given = {"nodes": {"count": 30, "cpus": 5000}, "tasks": tasks}
    before = signal.getsignal(signal.SIGINT)
    is_over = threading.Event()

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is before and not is_over.wait(0.005):
            pass
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        found = aios.allocate(given, time_limit_s=600.0).allocation
    finally:
        is_over.set()
        thread.join()
    assert found.time_s < 300
    assert faults(found.problem, found.assignment, found.devices) == []
