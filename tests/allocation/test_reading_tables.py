"""Tables, traces and the live cluster."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.problem import NO, devices_of
from jupyter_aios.allocation.reading import (
    problem_of_cluster,
    read_frames,
    read_plain,
    read_text,
    read_trace,
)
from jupyter_aios.core.entities import (
    Allocation,
    Device,
    Job,
    Node,
    NodeId,
    Placement,
    Resources,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import InputError
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem

pd: Any = pytest.importorskip("pandas", reason="tables are DataFrames here")
DATA = Path(os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
OPENB = DATA / "openb"
GIB = 2**30
MACHINES = pd.DataFrame(
    {"name": ["a", "b"], "cpus": [8, 16], "memory_gib": [32, 64.5], "gpus": [0, 2],
     "model": [None, "T4"]}
)  # fmt: skip
JOBS = pd.DataFrame(
    {"name": ["x", "y", "z"], "cpus": [1.5, 2, 3], "memory_gib": [1, 2, 4.25],
     "gpus": [0.0, 0.47, 2.0], "model": [np.nan, "T4", None], "priority": [1, 2, 3]}
)  # fmt: skip


# ------------------------------------------------------------------------------- tables


def test_a_table_means_what_the_same_text_means() -> None:
    found = read_frames(MACHINES, JOBS)
    text = read_text(
        "nodes: [{name: a, cpus: 8, memory: 32GiB},"
        " {name: b, cpus: 16, memory: 64.5GiB, gpus: 2, model: T4}]\n"
        "tasks: [{name: x, cpus: 1.5, memory: 1GiB},"
        " {name: y, cpus: 2, memory: 2GiB, gpus: 0.47, model: T4, priority: 2},"
        " {name: z, cpus: 3, memory: 4.25GiB, gpus: 2, priority: 3}]"
    )
    assert_equal(found, text)


def drawn_rows(draw: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows of nodes and tasks in which every kind of cell occurs, or is left out."""

    def some(**cells: Any) -> dict[str, Any]:
        return {key: value for key, value in cells.items() if draw.random() < 0.6}

    nodes: list[dict[str, Any]] = [
        {"name": f"n{i}", "cpus": 8, "memory": "8GiB", "gpus": 2, "model": draw.choice("AB")}
        | some(labels={"rack": draw.choice("rs")}, count=2, drained=True, used={"cpus": 0.5})
        for i in range(3)
    ]
    nodes.append({"name": "last", "cpus": 1, "memory": "1GiB", "labels": {"rack": "r"}})
    tasks: list[dict[str, Any]] = [
        {"name": f"t{i}", "cpus": draw.choice((0.25, 1, 2))}
        | some(count=2, gang=draw.choice((2, "g")), gpus=draw.choice((0.5, 1)), priority=3)
        | some(user=draw.choice("xy"), labels={"rack": "r"}, apart=draw.choice((True, "tag")))
        | some(together={"within": "rack"}, value=7, job=draw.choice("jk"), preemptible=True)
        for i in range(5)
    ]
    return nodes, [*tasks, {"name": "held", "cpus": 1, "on": "last", "movable": False, "user": "x"}]


def assert_equal(one: Problem, other: Problem) -> None:
    for part in ("nodes", "tasks"):
        for name in getattr(one, part).__dataclass_fields__:
            ours, theirs = getattr(getattr(one, part), name), getattr(getattr(other, part), name)
            if isinstance(ours, np.ndarray):
                assert np.array_equal(ours, theirs), name
            else:
                assert list(ours) == list(theirs), name
    for name in ("zones", "domains", "together_domain"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.zone_names, one.quotas) == (other.zone_names, other.quotas)


def test_text_mappings_and_tables_mean_the_same() -> None:
    draw = random.Random(11)
    quotas = {"user x": {"gpus": 1.5, "tasks": 3}}
    for _ in range(100):
        nodes, tasks = drawn_rows(draw)
        given = {"nodes": nodes, "tasks": tasks, "quotas": quotas}
        said = read_text(yaml.safe_dump(given, default_flow_style=draw.choice((True, False, None))))
        mapped = read_plain(given).problem
        assert mapped is not None
        assert_equal(said, mapped)
        filled = [
            [{**dict.fromkeys(_keys(rows)), **row} for row in rows] for rows in (nodes, tasks)
        ]
        tables = [pd.DataFrame(_usual(rows), dtype=object) for rows in filled]
        assert_equal(said, read_frames(*tables, quotas=quotas))


def _keys(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _usual(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Amounts have no gaps in a table: what is usual is written there."""
    usual: dict[str, Any] = {"count": 1, "gpus": 0, "priority": 1, "movable": True}
    usual |= {"drained": False, "preemptible": False}
    return [
        {key: usual.get(key) if value is None else value for key, value in row.items()}
        for row in rows
    ]


def test_a_table_of_alike_rows_can_have_counts_gangs_and_labels() -> None:
    machines = pd.DataFrame({"count": [3], "cpus": [4], "labels": [{"rack": "r1"}]})
    jobs = pd.DataFrame(
        {"name": ["j", "k"], "cpus": [1, 1], "gang": [2, 1], "count": [2, 1],
         "together": [{"within": "rack"}, None]}
    )  # fmt: skip
    found = read_frames(machines, jobs)
    assert list(found.tasks.names) == ["j-0-0", "j-0-1", "j-1-0", "j-1-1", "k"]
    assert found.tasks.gang.tolist() == [0, 0, 1, 1, NO]
    assert found.tasks.together.tolist() == [0, 0, 1, 1, NO]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cpus", float("nan"), "row 1 of tasks: cpus: NaN"),
        ("cpus", float("inf"), "row 1 of tasks: cpus: inf is not finite"),
        ("cpus", -2.0, "row 1 of tasks: cpus: -2.0 is below 0"),
        ("gpus", 1.5, "row 1 of tasks: gpus: 1.5 GPUs are neither"),
        ("model", "T5", "row 1 of tasks: no node has GPUs of model T5; there is: T4"),
        ("name", "x", "row 1 of tasks: two tasks are named x"),
        ("priority", -1, "row 1 of tasks: priority: -1 is below 0"),
        ("cpus", "many", "row 1 of tasks: cpus: many is no number"),
    ],
)
def test_a_wrong_cell_is_told_with_its_row(column: str, value: Any, message: str) -> None:
    jobs = JOBS.astype(object)
    jobs.loc[1, column] = value
    with pytest.raises(InputError, match=message):
        read_frames(MACHINES, jobs)


def test_missing_amounts_of_every_kind_are_faults() -> None:
    for missing in (None, pd.NA, pd.NaT, float("nan"), np.float64("nan"), ""):
        jobs = pd.DataFrame({"cpus": pd.Series([1, missing], dtype=object)})
        with pytest.raises(InputError, match="row 1 of tasks: cpus"):
            read_frames(MACHINES, jobs)


def test_calculated_and_single_precision_numbers_are_what_was_meant() -> None:
    jobs = pd.DataFrame({"gpus": np.array([0.11, 0.47], np.float32), "cpus": [0.1 + 0.2, 1 / 3]})
    found = read_frames(MACHINES, jobs)
    assert found.tasks.milli.tolist() == [110, 470]
    assert found.tasks.demand[:, 0].tolist() == [300, 333]


def test_a_column_that_is_not_known_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="tasks have no memroy_gib; did you mean memory_gib"):
        read_frames(MACHINES, JOBS.rename(columns={"memory_gib": "memroy_gib"}))


def test_tables_without_rows_or_columns_are_refused() -> None:
    with pytest.raises(InputError, match="there are no tasks"):
        read_frames(MACHINES, JOBS.iloc[:0])
    with pytest.raises(InputError, match="there are no nodes"):
        read_frames(pd.DataFrame(), JOBS)
    with pytest.raises(InputError, match="nodes is a list, not a table"):
        read_frames([1], JOBS)
    with pytest.raises(InputError, match="two columns named cpus"):
        read_frames(MACHINES, pd.concat([JOBS, JOBS[["cpus"]]], axis=1))
    with pytest.raises(InputError, match="have 1 to 2 rows"):
        read_frames({"cpus": [1, 2], "name": ["a"]}, JOBS)


def test_tables_may_stand_where_lists_stand() -> None:
    given = {"nodes": MACHINES, "tasks": [{"name": "x", "gpus": 1}]}
    found = read_plain(given).problem
    assert found is not None
    assert (len(found.nodes), found.tasks.gpus.tolist()) == (2, [1])


def test_quotas_go_with_tables() -> None:
    jobs = JOBS.assign(user=["ada", "eve", "ada"])
    found = read_frames(MACHINES, jobs, quotas={"user ada": {"gpus": 1}})
    assert found.tasks.quotas[:, 0].tolist() == [0, NO, 0]
    with pytest.raises(InputError, match=r"quotas\[user bob\]|no task is of user bob"):
        read_frames(MACHINES, jobs, quotas={"user bob": {"gpus": 1}})


# ------------------------------------------------------------------------------- traces

NODE_LINES = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,96000,1024,0,\n"
TASK_HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,more\n"
TASK_LINES = "a,12000,16384,1,460,,LS,1\nb,6000,1024,2,1000,P100|T4,BE,2\nc,1000,1,0,0,T4,,3\n"


def trace(folder: Path, nodes: str = NODE_LINES, tasks: str = TASK_HEAD + TASK_LINES) -> Any:
    (folder / "n.csv").write_text(nodes, encoding="utf-8")
    (folder / "t.csv").write_text(tasks, encoding="utf-8")
    return read_trace(folder / "n.csv", folder / "t.csv")


def test_a_trace_is_read_column_by_column(tmp_path: Path) -> None:
    found = trace(tmp_path)
    assert found.nodes.free.tolist() == [[64000, 256 * GIB, 0], [96000, GIB, 0]]
    assert found.nodes.devices.tolist() == [[1000, 1000], [NO, NO]]
    assert found.tasks.gpus.tolist() == [1, 2, 0]
    assert found.tasks.milli.tolist() == [460, 1000, 0]
    assert found.tasks.priority.tolist() == [4, 1, 1]
    zones = found.zones[found.tasks.zone]
    assert zones.tolist() == [[True, True], [True, False], [False, False]]


def test_a_priority_column_is_stronger_than_the_class_of_service(tmp_path: Path) -> None:
    tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,qos,priority\na,1,1,0,0,LS,7\n"
    assert trace(tmp_path, tasks=tasks).tasks.priority.tolist() == [7]


@pytest.mark.parametrize(
    ("nodes", "tasks", "message"),
    [
        (NODE_LINES, "name,cpu_milli\na,1\n", "t.csv has no column memory_mib"),
        ("sn,cpu_milli,memory_mib\nn,1,1\n", TASK_HEAD + TASK_LINES, "n.csv has no column gpu"),
        (NODE_LINES, "", "t.csv is empty"),
        (NODE_LINES, TASK_HEAD, "there are no tasks"),
        (NODE_LINES.splitlines()[0], TASK_HEAD + TASK_LINES, "there are no nodes"),
        (NODE_LINES, TASK_HEAD + "a,1\n", "line 2 of t.csv: 2 cells"),
        (NODE_LINES, TASK_HEAD + "a,x,1,0,0,,,\n", "line 2 of t.csv: cpu_milli: x is no number"),
        (
            NODE_LINES,
            TASK_HEAD + "\na,,1,0,0,,,\n",
            "line 3 of t.csv: cpu_milli: there is no value",
        ),
        (NODE_LINES, TASK_HEAD + "a,1,1,2,500,,,\n", "500 thousandths of each of 2 GPUs"),
        (NODE_LINES, TASK_HEAD + "a,1,1,1,0,,,\n", "0 thousandths of a GPU"),
        (NODE_LINES, TASK_HEAD + "a,1,1,1,1500,,,\n", "1500 is above 1,000"),
        (NODE_LINES, TASK_HEAD + "a,1,1,0,0,,,\na,1,1,0,0,,,\n", "line 3 of t.csv: two tasks"),
        (NODE_LINES, TASK_HEAD + "a,-1,1,0,0,,,\n", "line 2 of t.csv: cpu_milli: -1 is below 0"),
    ],
)
def test_a_wrong_trace_is_told_with_file_and_line(
    tmp_path: Path, nodes: str, tasks: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trace(tmp_path, nodes, tasks)


def test_files_that_are_no_traces_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: No such file"):
        read_trace(tmp_path / "nowhere.csv", tmp_path / "t.csv")
    (tmp_path / "n.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"n.csv: .*decode"):
        read_trace(tmp_path / "n.csv", tmp_path / "t.csv")


@pytest.mark.skipif(not OPENB.is_dir(), reason=f"no reference data in {OPENB}")
def test_the_production_trace_is_what_its_description_says() -> None:
    nodes = OPENB / "openb_node_list_gpu_node.csv"
    found = read_trace(nodes, OPENB / "openb_pod_list_default.csv")
    assert (len(found.nodes), len(found.tasks)) == (1213, 8152)
    assert int(found.nodes.device_count.sum()) == 6212
    kinds = np.column_stack([found.tasks.demand, found.tasks.gpus, found.tasks.milli])
    zoned = np.column_stack([kinds, found.tasks.zone])
    assert len(np.unique(zoned, axis=0)) == 151


# ------------------------------------------------------------------------------- the live cluster


def node(name: str, gpus: int = 0, **changes: Any) -> Node:
    capacity = Resources(8000, 16 * GIB, 0, gpus * 1000)
    devices = tuple(Device(3 + index, "A100", GIB) for index in range(gpus))
    return Node(NodeId(name), "here", "local", capacity, devices, **changes)


def running(name: str, nodes: list[str], **spec: Any) -> Job:
    devices = spec.pop("devices", ())
    job = example_job(f"id-{name}", name=name, nodes=len(nodes), **spec)
    placements = tuple(Placement(i, NodeId(node), devices) for i, node in enumerate(nodes))
    return replace(job, state=JobState.RUNNING, allocation=Allocation(placements))


def test_what_runs_is_in_force_and_stays_and_what_waits_is_a_gang() -> None:
    nodes = [node("b", gpus=2), node("a"), node("c", gpus=2, is_drained=True)]
    jobs = [
        running("one", ["b"], devices=(4,), resources=Resources(1000, GIB, 0, 1000), priority=-2),
        example_job("id-two", name="two", nodes=2, resources=Resources(2000, 0, 0, 250)),
        replace(example_job("id-old", name="old"), state=JobState.SUCCEEDED),
    ]
    found = problem_of_cluster(nodes, jobs)
    tasks = found.tasks
    assert list(found.nodes.names) == ["a", "b", "c"]
    assert list(tasks.names) == ["one", "two-0", "two-1"]
    assert tasks.current.tolist() == [1, NO, NO]
    assert devices_of(int(tasks.current_devices[0])) == (1,)
    assert tasks.is_movable.tolist() == [False, True, True]
    assert tasks.gang.tolist() == [NO, 1, 1]
    assert tasks.apart.tolist() == [0, 1, 1]
    assert (tasks.gpus.tolist(), tasks.milli.tolist()) == ([1, 1, 1], [1000, 250, 250])
    assert tasks.priority.tolist() == [1, 3, 3]
    assert found.zones.tolist() == [[True, True, False]]
    assert faults(found, tasks.current, tasks.current_devices) == []


def test_jobs_stay_on_the_nodes_of_their_engine() -> None:
    nodes = [node("a"), replace(node("b"), engine="slurm")]
    jobs = [example_job("i1", name="x"), example_job("i2", name="x", engine="slurm")]
    found = problem_of_cluster(nodes, jobs)
    assert found.zones[found.tasks.zone].tolist() == [[True, False], [False, True]]
    assert len(set(found.tasks.names)) == len(found.tasks)


def test_what_was_held_on_a_node_that_is_gone_is_not_there() -> None:
    found = problem_of_cluster([node("a")], [running("one", ["a", "gone"])])
    assert found.tasks.current.tolist() == [0]


def test_a_cluster_without_nodes_or_jobs_is_told() -> None:
    with pytest.raises(InputError, match="there are no nodes"):
        problem_of_cluster([], [example_job()])
    with pytest.raises(InputError, match="no job runs or waits"):
        problem_of_cluster([node("a")], [])
