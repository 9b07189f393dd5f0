"""What the allocation view shows, without a widget: words, groups, columns, text, picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.explain import explain as explain_task
from jupyter_aios.allocation.ladder import allocate
from jupyter_aios.allocation.problem import (
    NO,
    Nodes,
    Problem,
    bits_of,
    nodes_of,
    problem_of,
    tasks_of,
)
from jupyter_aios.allocation.reading import read_text
from jupyter_aios.allocation.result import Allocation, Level
from jupyter_aios.widgets.allocation import static, text, words
from jupyter_aios.widgets.allocation.model import AllocationModel, Group, Move, gap_to, loads
from tests.widgets.allocations import GIB, answered, cluster, compared, explain


def two_nodes() -> Nodes:
    """Return one node with two GPUs, half of one of them held by others, and one without."""
    return nodes_of(
        ["a", "b"],
        np.array([[8000, 64 * GIB, 0], [4000, 32 * GIB, 0]]),
        np.array([[1000, 500], [NO, NO]]),
        capacity=np.array([[16000, 64 * GIB, 0], [4000, 32 * GIB, 0]]),
        model_names=("T4",),
    )


def small(**columns: Any) -> Problem:
    """Return four tasks: a whole GPU, a share, no GPU, and eight GPUs."""
    usual: dict[str, Any] = {
        "gpus": np.array([1, 1, 0, 8]),
        "milli": np.array([1000, 250, 0, 1000]),
        "job": np.array([0, 1, 1, 2]),
        "job_names": ("train", "serve", "huge"),
    }
    demand = np.array([[2000, 8 * GIB, 0], [1000, 4 * GIB, 0], [3000, GIB, 0], [8000, GIB, 0]])
    return problem_of(two_nodes(), tasks_of(["t0", "t1", "t2", "t3"], demand, **(usual | columns)))


def placed(problem: Problem, *levels: Level, status: str = "feasible") -> Allocation:
    """Return the first three tasks placed."""
    node = np.array([0, 0, 1, NO])
    devices = np.array([bits_of([0]), bits_of([1]), 0, 0])
    assert faults(problem, node, devices) == []
    levels = levels or (Level("gpu", 1250, 1500),)
    return Allocation(problem, node, devices, levels, "columns", 0.412, status)


# --------------------------------------------------------------------------------------- words


def test_the_headline_says_value_bound_gap_rung_and_time() -> None:
    assert words.headline(placed(small())) == (
        "3 of 4 tasks placed · gpu 1.25 GPUs of at most 1.5 GPUs (gap 17 %, proven) · columns"
        " · 0.41 s"
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (Level("gpu", 61_250, 61_400), "gpu 61.25 GPUs of at most 61.4 GPUs (gap 0.24 %, proven)"),
        (Level("priority", 61_400, 61_400), "priority 61,400, proven best"),
        (Level("priority", 61_250, None), "priority 61,250 (no bound known)"),
        (Level("cost", 110, 100), "cost 110 of at least 100 (gap 9.1 %, proven)"),
        (Level("cost", 10**6 + 1, 10**6),
         "cost 1,000,001 of at least 1,000,000 (gap below 0.01 %, proven)"),
    ],
)  # fmt: skip
def test_a_level_is_told_with_its_bound(level: Level, said: str) -> None:
    assert words.standing(level) == said


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        ("optimal", Level("gpu", 5, 5), "No allocation has a better gpu: the bound is reached."),
        ("feasible", Level("gpu", 99, 100), "It is valid, and no other is better by more than 1 %"),
        ("feasible", Level("gpu", 99, None), "How much better another could be is not known."),
        ("feasible", Level("feasible", 4, 4), "Every task is placed."),
        ("infeasible", Level("feasible", 3, 3), "not every task can be placed: at most 3 of 4."),
        ("undecided", Level("feasible", 3, 4), "all 4 tasks can be placed. At most 4 can."),
        ("undecided", Level("feasible", 3, None), "not found out in time whether all 4 tasks can"),
    ],
)  # fmt: skip
def test_every_status_is_told_in_plain_words(status: str, level: Level, said: str) -> None:
    assert said in words.meaning(placed(small(), level, status=status))


def test_later_levels_are_told_apart_from_the_one_that_the_gap_is_about() -> None:
    levels = (Level("priority", 5, 6), Level("moves", 2, 1), Level("fragmentation", 1500, None))
    in_force = small(current=np.array([1, NO, NO, NO]))
    assert words.later(placed(in_force, *levels)) == (
        "Bound and gap are about priority, which comes first. Then: 2 tasks moved or stopped"
        " (50 % from best), fragmentation 1.5 GPUs."
    )
    # Where nothing is in force nothing can move, and nothing is said of it.
    assert "moved" not in words.later(placed(small(), *levels))
    assert words.later(placed(small(), levels[0])) == ""


def test_a_demand_names_what_is_asked_for_and_where() -> None:
    problem = replace(small(), zone_names=("T4",))
    assert words.demand(problem, 1) == "0.25 GPU, 1 CPU, 4 GiB on T4"
    assert words.demand(small(), 3) == "8 GPUs, 8 CPUs, 1 GiB"


def test_an_explanation_is_a_line_and_a_line_for_each_fix() -> None:
    found = allocate(read_text("r: [7, 5, 5]\nc: [6, 4]"), "priority", 1.0)
    (task,) = (i for i in found.unplaced if found.problem.tasks.demand[i, 0] == 7000)
    told = explain_task(found, int(task))
    first, *fixes = words.explanation(told).splitlines()
    assert first == told.sentence
    assert len(fixes) == len(told.fixes) > 0
    assert all(line.startswith("Fix: ") for line in fixes)


# --------------------------------------------------------------------------------------- model


def test_what_is_left_out_is_grouped_by_job() -> None:
    model = AllocationModel(placed(small()))
    assert model.groups == (Group("huge", 1, 3, "8 GPUs, 8 CPUs, 1 GiB"),)


def test_tasks_without_jobs_are_grouped_by_what_they_need() -> None:
    problem = problem_of(
        two_nodes(),
        tasks_of(
            [f"t{i}" for i in range(5)],
            np.array([[9000, 0, 0], [9000, 0, 0], [10000, 0, 0], [9000, 0, 0], [10000, 0, 0]]),
        ),
    )
    none = np.full(5, NO), np.zeros(5, np.int64)
    found = Allocation(problem, *none, (Level("feasible", 0, 0),), "exact", 0.1, "infeasible")
    groups = AllocationModel(found).groups
    assert [(group.label, group.count) for group in groups] == [("9 CPUs", 3), ("10 CPUs", 2)]


def test_the_load_of_a_node_counts_what_others_hold() -> None:
    found = placed(small())
    cpu, memory, gpu = loads(found.problem, found.assignment)[0]
    assert cpu == pytest.approx((8000 + 3000) / 16000)
    assert memory == pytest.approx(12 / 64)
    assert gpu == pytest.approx((500 + 1000 + 250) / 2000)
    assert np.isnan(loads(found.problem, found.assignment)[1, 2])


def test_moves_are_what_is_in_force_and_elsewhere_now() -> None:
    current = np.array([0, 0, 0, 1])
    devices = np.array([bits_of([0]), bits_of([0]), 0, 0])
    stops = np.array([False, False, False, True])
    problem = small(current=current, current_devices=devices, is_preemptible=stops)
    model = AllocationModel(placed(problem))
    assert model.moves == (Move(1, 0, 0), Move(2, 0, 1), Move(3, 1, -1))
    assert [text.said(model, move) for move in model.moves] == [
        "t1: to device 1 of a",
        "t2: a → b",
        "t3: stopped (was on b)",
    ]


def test_a_policy_is_measured_by_the_best_bound_that_is_known() -> None:
    answer = placed(small(), Level("gpu", 1250, 1500))
    other = placed(small(), Level("gpu", 1000, 2000))
    assert gap_to(other, answer) == pytest.approx(1 / 3)
    assert gap_to(placed(small(), Level("gpu", 1000, None)), answer) == pytest.approx(1 / 3)
    unknown = placed(small(), Level("gpu", 1000, None))
    assert gap_to(unknown, unknown) is None


def read(column: list[Any], buffers: list[bytes]) -> Any:
    """Return what a page reads of a column."""
    kind, at = column
    if kind == "text":
        return buffers[at].decode().split("\0")
    return np.frombuffer(buffers[at], f"<{kind}").tolist()


def test_the_columns_of_a_snapshot_are_the_problem_and_the_allocation() -> None:
    problem = small(current=np.array([1, NO, NO, NO]))
    model = AllocationModel(placed(problem), [("random", placed(problem))])
    content, buffers = model.snapshot()
    json.dumps(content)
    assert read(content["tasks"]["names"], buffers) == ["t0", "t1", "t2", "t3"]
    assert read(content["tasks"]["job_names"], buffers) == ["train", "serve", "huge"]
    assert read(content["nodes"]["devices"], buffers) == [1000, 500, NO, NO]
    assert read(content["nodes"]["capacity"], buffers)[0] == 16000
    kinds = [(one["kind"], one["name"]) for one in content["placements"]]
    assert kinds == [("answer", "this allocation"), ("before", "before"), ("policy", "random")]
    assert read(content["placements"][0]["node"], buffers) == [0, 0, 1, NO]
    assert read(content["placements"][0]["low"], buffers) == [1, 2, 0, 0]
    assert read(content["placements"][1]["node"], buffers) == [1, NO, NO, NO]
    assert content["groups"] == [vars(model.groups[0])]


def test_devices_beyond_32_travel_in_a_second_column() -> None:
    nodes = nodes_of(["big"], np.array([[8000, GIB, 0]]), np.full((1, 40), 1000))
    tasks = tasks_of(["t"], np.array([[1, 1, 0]]), gpus=np.array([2]), milli=np.array([1000]))
    problem = problem_of(nodes, tasks)
    devices = np.array([bits_of([0, 35])])
    found = Allocation(problem, np.array([0]), devices, (Level("gpu", 2000, 2000),), "exact", 0.1)
    content, buffers = AllocationModel(found).snapshot()
    answer = content["placements"][0]
    assert read(answer["low"], buffers) == [1]
    assert read(answer["high"], buffers) == [1 << 3]


def test_a_name_with_the_separator_in_it_shifts_no_other_name() -> None:
    problem = small(job_names=("tr\0ain", "serve", "huge"))
    content, buffers = AllocationModel(placed(problem)).snapshot()
    assert read(content["tasks"]["job_names"], buffers) == ["tr ain", "serve", "huge"]


def test_labels_and_flags_reach_the_page() -> None:
    nodes = replace(
        two_nodes(),
        labels=((("rack", "r1"), ("virtual", "true")), ()),
        is_drained=np.array([False, True]),
    )
    problem = replace(small(), nodes=nodes)
    content, buffers = AllocationModel(placed(problem)).snapshot()
    assert read(content["nodes"]["flags"], buffers) == [2, 1]
    assert read(content["nodes"]["labels"], buffers) == ["rack=r1, virtual=true", ""]


# ------------------------------------------------------------------------------ text and tables


def test_the_text_has_the_head_the_nodes_what_is_left_out_and_the_policies() -> None:
    problem = cluster(40, 6)
    model = AllocationModel(answered(problem), compared(problem), explain(problem))
    shown = text.text(model)
    head, nodes, left, policies = shown.split("\n\n")
    assert head.startswith("feasible · ")
    assert "of at most" in head
    assert [line.split()[0] for line in nodes.splitlines()[1:]] == list(problem.nodes.names)
    first = model.groups[0]
    assert left.startswith(f"Left out: {len(model.allocation.unplaced)} tasks\n  {first.label}")
    assert f"<b>{problem.tasks.names[first.task]}</b>: " in left
    assert [line.split("  ")[0] for line in policies.splitlines()[1:]] == [
        "this allocation", "random", "worst fit", "smallest first",
    ]  # fmt: skip


def test_a_long_text_ends_and_says_how_much_is_left() -> None:
    problem = cluster(600, 60)
    shown = text.text(AllocationModel(answered(problem)))
    assert "… and 44 more nodes; the mean of all: CPU " in shown
    assert "more groups (" in shown
    assert len(shown.splitlines()) < 40


def test_bars_are_as_long_as_the_load() -> None:
    assert text.bar(0.5) == "█████     "
    assert text.bar(1.2) == "██████████"
    assert text.bar(1e-9).strip() == "▏"
    assert text.bar(float("nan")) == ""


def test_the_tables_have_a_row_for_each_task_job_node_and_policy() -> None:
    model = AllocationModel(placed(small()), [("random", placed(small()))])
    tasks = text.tasks(model)
    assert [(row.name, row.node, row.devices) for row in tasks] == [
        ("t0", "a", "0"), ("t1", "a", "1"), ("t2", "b", ""), ("t3", "left out", ""),
    ]  # fmt: skip
    assert [(row.name, row.tasks, row.placed, row.nodes) for row in text.jobs(model)] == [
        ("train", 1, 1, ("a",)), ("serve", 2, 2, ("a", "b")), ("huge", 1, 0, ()),
    ]  # fmt: skip
    assert [(row.name, row.model, row.tasks, row.gpu) for row in text.nodes(model)] == [
        ("a", "T4", 2, "88 %"), ("b", "", 1, ""),
    ]  # fmt: skip
    assert [row.name for row in text.policies(model)] == ["this allocation", "random"]


def test_the_picture_of_a_long_table_ends_and_its_rows_do_not() -> None:
    table = text.tasks(AllocationModel(answered(cluster(200, 6))))
    assert len(table.rows) == 200
    assert repr(table).endswith("… and 140 more rows")


# -------------------------------------------------------------------------------------- picture


@pytest.mark.parametrize(("tasks", "nodes"), [(40, 6), (900, 90), (2000, 400)])
def test_the_picture_is_small_transparent_and_not_empty(tasks: int, nodes: int) -> None:
    from PIL import Image

    problem = cluster(tasks, nodes)
    model = AllocationModel(answered(problem), compared(problem) if tasks < 100 else ())
    png = static.picture(model)
    assert len(png) < 150_000
    image = Image.open(io.BytesIO(png))
    pixels = np.array(image.convert("RGBA"))
    assert image.width > 1000
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3] > 0).mean() > 0.05


def test_the_page_escapes_names_and_reasons() -> None:
    problem = small(job_names=("train", "serve", "<script>alert(1)</script>"))
    page = static.page(AllocationModel(placed(problem), (), lambda _: "<b>no</b>"), "place", "")
    assert "<script" not in page
    assert "<b>no" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'class="aios-place-place"' in page


@pytest.mark.parametrize(("tasks", "nodes"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_place_or_nowhere_to_is_shown_too(tasks: int, nodes: int) -> None:
    problem = problem_of(
        nodes_of(
            [f"n{j}" for j in range(nodes)],
            np.full((nodes, 3), 1000),
            np.zeros((nodes, 0), np.int64),
        ),
        tasks_of([f"t{i}" for i in range(tasks)], np.full((tasks, 3), 5000)),
    )
    none = np.full(tasks, NO), np.zeros(tasks, np.int64)
    found = Allocation(problem, *none, (Level("priority", 0, 0),), "empty", 0.0, "optimal")
    model = AllocationModel(found)
    assert f"0 of {tasks} tasks placed" in text.text(model)
    assert static.picture(model).startswith(b"\x89PNG")
    json.dumps(model.snapshot()[0])
