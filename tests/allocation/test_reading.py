from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.problem import NO, devices_of
from jupyter_aios.allocation.reading import read, read_plain, read_text
from jupyter_aios.allocation.reading.names import GroupedNames, NameGroup, clashes
from jupyter_aios.allocation.reading.sheets import NODE_FIELDS, TASK_FIELDS
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem

DOCS = Path(__file__).parents[2] / "docs" / "allocation-input.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
GIB = 2**30


def problem(nodes: str = "{cpus: 4, memory: 8GiB}", *tasks: str, quotas: str = "") -> Problem:
    lines = [f"nodes: {nodes}", "tasks:", *(f"  - {task}" for task in tasks)]
    return read_text("\n".join([*lines, f"quotas: {quotas}"] if quotas else lines))


def complaint(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(text)
    return str(caught.value)


# ------------------------------------------------------------------------------- what is documented


def test_every_example_of_the_documentation_is_read() -> None:
    assert len(EXAMPLES) == 5
    found = [read(text) for text in EXAMPLES]
    assert [one.objective for one in found] == [
        "feasible", "feasible", "cost", "priority", "priority",
    ]  # fmt: skip


def test_every_key_is_documented() -> None:
    told = set(re.findall(r"`([a-z_]+)`", DOCS.read_text(encoding="utf-8")))
    in_units = {f"{what}_{unit}" for what in ("disk",) for unit in ("bytes", "mib", "gib")}
    assert NODE_FIELDS.keys() | TASK_FIELDS.keys() <= told | in_units


def test_the_example_of_everything_means_what_the_documentation_says() -> None:
    found = read_text(EXAMPLES[4])
    nodes, tasks = found.nodes, found.tasks
    names = list(tasks.names)
    assert list(nodes.names) == ["big-0", "big-1", "small-0", "small-1", "small-2", "old"]
    assert nodes.model_names == ("A100", "T4")
    assert nodes.devices[0].tolist() == [0, 500, *[1000] * 6]
    assert nodes.devices[2].tolist() == [1000, 1000, *[NO] * 6]
    assert nodes.free[0].tolist() == [56_000, 448 * GIB, 2048 * GIB]
    assert nodes.capacity[0].tolist() == [64_000, 512 * GIB, 2048 * GIB]
    assert nodes.is_drained.tolist() == [False] * 5 + [True]
    assert dict(nodes.labels[2]) == {"zone": "us", "rack": "r2"}
    assert names[:6] == ["llm-0-0", "llm-0-1", "llm-0-2", "llm-1-0", "llm-1-1", "llm-1-2"]
    assert names[6:] == ["store", "worker-0", "worker-1", "web", "served", "batch"]
    assert tasks.gang.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, NO, NO, NO]
    assert tasks.gang_names == ("llm-0", "llm-1", "training")
    assert tasks.together.tolist() == [0, 0, 0, 1, 1, 1, *[NO] * 6]
    racks = found.domains[found.together_domain[0]]
    assert racks.tolist() == [0, 0, 1, 1, 1, 1]
    assert tasks.apart[names.index("store")] == tasks.apart[names.index("web")] != NO
    zone = dict(zip(names, tasks.zone.tolist(), strict=True))
    assert found.zone_names[zone["worker-0"]] == "A100 or T4 without zone=us"
    assert found.zones[zone["worker-0"]].tolist() == [True, True, False, False, False, False]
    assert found.zones[zone["web"]].tolist() == [False, False, True, True, True, False]
    assert found.zones[zone["llm-0-0"]].tolist() == [True] * 5 + [False]
    served, batch = names.index("served"), names.index("batch")
    assert (tasks.current[served], devices_of(tasks.current_devices[served])) == (0, (1,))
    assert (tasks.current[batch], devices_of(tasks.current_devices[batch])) == (5, (0,))
    assert tasks.is_movable.tolist() == [True] * 10 + [False, True]
    assert tasks.is_preemptible.tolist() == [False] * 11 + [True]
    assert (tasks.value[batch], tasks.value[served]) == (10, -1)
    assert [quota.name for quota in found.quotas] == ["user ada", "group vision"]
    assert found.quotas[1].limits == (100_000, 1024 * GIB, None, 16_000, 100)
    assert tasks.quotas[0].tolist() == [0, 1]
    assert tasks.quotas[6].tolist() == [NO, NO]
    assert tasks.user_names == ("ada", "")
    in_force = np.where(tasks.is_in_force, tasks.current, NO)
    assert faults(found, in_force, tasks.current_devices) == []


# ------------------------------------------------------------------------------- the formula


def test_numbers_of_the_formula_keep_their_order_and_sums() -> None:
    found = read_text("r: [3, 5, 0.25]\nc: [6, 4]")
    assert found.tasks.demand[:, 0].tolist() == [3000, 5000, 250]
    assert found.nodes.free[:, 0].tolist() == [6000, 4000]
    assert list(found.tasks.names) == ["task 1", "task 2", "task 3"]


def test_vectors_of_the_formula_are_exact_in_every_dimension() -> None:
    found = read_text("r: [[1, 0.1, 0.5], [2, 0.2, 0.25]]\nc: [[3, 0.3, 0.75]]")
    assert found.tasks.demand.sum(axis=0).tolist() == found.nodes.free[0].tolist()


def test_costs_make_a_generalized_assignment_problem() -> None:
    found = read("r: [3, 5]\nc: [6, 5]\ncost: [[1, 2], [3, 1]]").assignment
    assert found is not None
    assert found.demands.tolist() == [[3, 3], [5, 5]]
    table = read("r: [[3, 1], [2, 5]]\nc: [6, 5]\ncost: [[1, 2], [3, 1]]").assignment
    assert table is not None
    assert table.demands.tolist() == [[3, 1], [2, 5]]
    with pytest.raises(InputError, match="generalized assignment"):
        read_text("r: [3, 5]\nc: [6, 5]\ncost: [[1, 2], [3, 1]]")


def test_arrays_of_numpy_are_formulas_too() -> None:
    found = read_plain({"r": np.array([3, 5, 2]), "c": np.array([[6], [4]])})
    assert found.problem is not None
    assert found.problem.tasks.demand[:, 0].tolist() == [3000, 5000, 2000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r: [3]", "c is missing"),
        ("c: [3]", "r is missing"),
        ("r: []\nc: [3]", "line 1: r: there are no tasks"),
        ("r: [3]\nc: []", "line 2: c: there are no nodes"),
        ("r: 3\nc: [3]", "line 1: r: this is a list"),
        ("r: [3, x]\nc: [3]", r"line 1: r\[1\]: x is no number"),
        ("r: [3, -1]\nc: [3]", r"line 1: r\[1\]: -1 is not from 0"),
        ("r: [3, .nan]\nc: [3]", r"line 1: r\[1\]: .nan is no number"),
        ("r: [3, NaN]\nc: [inf]", r"line 1: r\[1\]: NaN is not finite; line 2: c\[0\]: inf"),
        ("r: [3, 1e99]\nc: [3]", r"r\[1\]: 1e99"),
        ("r: [3, ]\nc: [3, ~]", r"line 2: c\[1\]: there is no number"),
        ("r: [3, 0.0001]\nc: [3]", r"line 1: r\[1\]: 0.0001 has more than three decimals"),
        ("r: [[1, 2], [3]]\nc: [[1, 2]]", r"line 1: r\[1\]: 1 numbers, 2 in r\[0\]"),
        ("r: [[1, 2]]\nc: [1]", r"line 2: c\[0\]: 1 numbers, 2 in r\[0\]"),
        ("r: [[1, 2, 3, 4]]\nc: [[1, 2, 3, 4]]", "4 dimensions; there are 1 to 3"),
        ("r: [[]]\nc: [[]]", "0 dimensions"),
        ("r: [[[1]]]\nc: [1]", "is no number"),
        ("r: [1]\nc: [1]\ncosts: [[1]]", "line 3: costs: costs is unknown; did you mean cost?"),
        ("r: [1, 2]\nc: [1]\ncost: [[1]]", "line 3: cost: 1 rows for 2 tasks"),
        ("r: [1]\nc: [1, 2]\ncost: [[1]]", r"line 3: cost\[0\]: 1 numbers, 2 are needed"),
        ("r: [1]\nc: [1]\ncost: [[1.5]]", r"cost\[0\]\[0\]: 1.5: costs are whole numbers"),
        ("r: [1]\nc: [1]\nnodes: {cpus: 1}", "r stands beside nodes and tasks"),
    ],
)
def test_wrong_formulas_are_told_with_their_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)


# ------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{cpus: -1}", "line 3: cpus: -1 is below 0"),
        ("{cpus: lots}", "line 3: cpus: lots is no number"),
        ("{cpus: 0.0001}", "line 3: cpus: 0.0001 is finer than 1/1,000"),
        ("{cpus: 1e12}", "line 3: cpus: 1e12 is above 1,000,000"),
        ("{cpus: .inf}", "line 3: cpus: .inf is no number"),
        ("{cpus: inf}", "line 3: cpus: inf is not finite"),
        ("{cpus: nan}", "line 3: cpus: nan is not finite"),
        ("{cpus: }", "line 3: cpus: there is no value"),
        ("{cpus: [1]}", "line 3: cpus: a list is no number"),
        ("{cpus: {a: 1}}", "line 3: cpus: a mapping is no number"),
        ("{cpus: true}", "line 3: cpus: true is no number"),
        ("{memory: 8}", "line 3: memory: 8 without a unit is 8 bytes"),
        ("{memory: 8 gigs}", "'8 gigs' is not an amount of memory"),
        ("{memory: -8GiB}", "memory: '-8GiB' is not an amount"),
        ("{memory: 9999999TiB}", "more memory than any machine has"),
        ("{gpus: 1.5}", "line 3: gpus: 1.5 GPUs are neither whole devices nor a share of one"),
        ("{gpus: 63}", "line 3: gpus: 63 is above 62"),
        ("{cpus: 1, priority: -1}", "line 3: priority: -1 is below 0"),
        ("{cpus: 1, priority: 1.5}", "line 3: priority: 1.5 is not a whole number"),
        ("{cpus: 1, gang: 0}", "line 3: gang: 0 is below 1"),
        ("{cpus: 1, count: 0}", "line 3: count: 0 is below 1"),
        ("{cpus: 1, count: 1000000000000}", "line 3: count: 1000000000000 is above 10,000,000"),
        ("{cpus: 1, count: 10000000, gang: 9}", "90,000,000 tasks; 10,000,000 are read"),
        ("{cpus: 1, movable: perhaps}", "line 3: movable: perhaps is neither true nor false"),
        ("{cpus: 1, labels: eu}", "line 3: labels: eu is no mapping"),
        ("{llm: {cpus: 1}}", "line 3: tasks have no llm; write tasks: .{name: llm, …}"),
        ("{cpu: 1}", "line 3: tasks have no cpu; did you mean cpus"),
        ("{cpus: 1, memroy: 1GiB}", "line 3: tasks have no memroy; did you mean memory"),
        ("{cpus: 1, cpu_milli: 5}", "line 3: cpus is said twice: cpu_milli and cpus"),
        ("{cpus: 1, name: [a]}", "line 3: name: a list is no name"),
        ("{name: a}", "line 3: a task asks for cpus, memory, disk or gpus"),
        ("3", "line 3: tasks are mappings such as"),
        ("{cpus: 1, model: T4}", "line 3: no node has GPUs of model T4; there is: A100, V100"),
        ("{cpus: 1, models: [A10]}", "model A10; did you mean A100\\? There is: A100, V100"),
        ("{cpus: 1, labels: {zoen: eu}}", "no node has a label zoen; did you mean zone"),
        ("{cpus: 1, labels: {zone: us}}", "no node has zone=us; there is: eu, uk"),
        ("{cpus: 1, avoid: {zone: us}}", "avoid: no node has zone=us"),
        ("{cpus: 1, on: n7}", "line 3: on: no node is named n7; there is: n-0, n-1, node-0"),
        ("{cpus: 1, on: {devices: [0]}}", "on: the node is missing"),
        ("{cpus: 1, on: {node: n-0, device: 0}}", "on: device is unknown; did you mean devices"),
        ("{gpus: 1, on: {node: n-0, devices: [2]}}", "on: n-0 has no device 2, it has 2"),
        ("{gpus: 1, on: {node: n-0, devices: [0, 1]}}", "has 2 devices for task-0, which needs 1"),
        ("{gpus: 2, on: {node: n-0, devices: [0, 0]}}", "on: a device is named twice"),
        ("{gpus: 3, on: n-0}", "on: n-0 has 2 devices for task-0, which needs 3"),
        ("{cpus: 1, count: 3, on: [n-0, n-1]}", "line 3: on: 2 places for 3 tasks"),
        ("{cpus: 1, together: {within: rack}}", "together: no node has a label rack"),
        ("{cpus: 1, together: {in: zone}}", "together: in is unknown"),
        ("{cpus: 1, count: 2, apart: true, together: true}", "cannot be apart and together"),
    ],
)  # fmt: skip
def test_a_wrong_task_is_told_with_its_line(task: str, message: str) -> None:
    nodes = "[{name: n, count: 2, cpus: 4, memory: 8GiB, gpus: 2, model: A100, labels: {zone: eu}},"
    more = " {cpus: 4, memory: 8GiB, gpus: 2, model: V100, labels: {zone: uk}}]"
    with pytest.raises(InputError, match=message):
        problem(nodes + more, task)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("{cpus: -4}", "line 1: cpus: -4 is below 0"),
        ("{count: 4}", "line 1: a node gives cpus, memory, disk or gpus"),
        ("{gpus: 4}", "line 1: the nodes' cpus are missing, and tasks ask for them"),
        ("{cpus: 4, count: 0}", "line 1: count: 0 is below 1"),
        ("{cpus: 4, gpus: 0.5}", "line 1: gpus: 0.5 is not a whole number"),
        ("{cpus: 4, gpus: 63}", "line 1: gpus: 63 is above 62"),
        ("[]", "there are no nodes"),
        ("", "there are no nodes"),
        ("4", "line 1: nodes is a mapping, or a list of them"),
        ("[{name: a, cpus: 4}, {name: a, cpus: 4}]", "line 1: two nodes are named a"),
        ("{cpus: 4, used: {cpus: 5}}", "line 1: used: more cpus than the node has"),
        ("{cpus: 4, used: 5}", "line 1: used: 5 is no mapping"),
        ("{cpus: 4, gpus: 1, used: {gpus: [0.5, 0.5]}}", "used: the node has 1 devices"),
        ("{cpus: 4, gpus: 1, used: {gpus: 1.5}}", "used: the node has 1 devices"),
        ("{cpus: 4, gpus: 1, used: {gpus: [1.5]}}", "used: 1.5 is above 1"),
        ("{cpus: 4, used: {ram: 1}}", "used: ram is unknown"),
        ("{cpus: 4, labels: {zone: [eu, us]}}", "labels: a node has one zone"),
        ("{cpus: 4, drained: maybe}", "drained: maybe is neither true nor false"),
    ],
)
def test_a_wrong_node_is_told_with_its_line(nodes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        problem(nodes, "{cpus: 1}")


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ("[1]", "line 5: quotas is a mapping"),
        ("{ada: {gpus: 1}}", "line 5: 'ada' is neither `user NAME` nor `group NAME`"),
        ("{user ada: 4}", "line 5: user ada has no limits"),
        ("{user ada: {}}", "line 5: user ada has no limits"),
        ("{user ada: {gpu: 1}}", "line 5: user ada has no gpu; did you mean gpus"),
        ("{user ada: {gpus: -1}}", "line 5: user ada: gpus: -1 is below 0"),
        ("{user ada: {gpus: }}", "line 5: user ada: gpus: there is no value"),
        ("{user bob: {gpus: 1}}", "no task is of user bob; there is: ada, eve"),
        ("{user adda: {gpus: 1}}", "no task is of user adda; did you mean ada"),
        ("{group ada: {gpus: 1}}", "no task is of group ada; there is none"),
    ],
)
def test_a_wrong_quota_is_told_with_its_line(quotas: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        problem("{cpus: 4}", "{cpus: 1, user: ada}", "{cpus: 1, user: eve}", quotas=quotas)


# ------------------------------------------------------------------------------- the text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is nothing to read"),
        ("  \n\n", "there is nothing to read"),
        ("# only a comment\n", "line 1: this is no mapping"),
        ("tasks", "line 1: this is no mapping"),
        ("- 1", "line 1: this is no mapping"),
        ("nodes: {cpus: 1\ntasks: {cpus: 1}", "line 2: this is no YAML"),
        ("nodes: {cpus: 1}\n\ttasks: 1", "line 2: this is no YAML"),
        ("nodes: 'a", "this is no YAML"),
        ("nodes: {cpus: 1}\ntasks: \x00", "line 2: this is no YAML"),
        ("nodes: {cpus: 1}\n---\nnodes: 1", "line 2: a second document begins"),
        ("nodes: {cpus: 1}\nnodes: {cpus: 2}\ntasks: {cpus: 1}", "line 2: nodes is said twice"),
        ("nodes: {cpus: 1, cpus: 2}\ntasks: {cpus: 1}", "line 1: cpus is said twice"),
        ("nodes: *machines\ntasks: {cpus: 1}", "machines"),
        ("nodes: &a [*a]\ntasks: {cpus: 1}", "line 1: \\*a stands inside of itself"),
        ("nodes: {[1]: 2}\ntasks: {cpus: 1}", "line 1: a key is a single word"),
        ("a: " + "[" * 50_000, "line 1: this is nested too deeply"),
        ("a: " + "[" * 30 + "]" * 30, "line 1: this is nested too deeply"),
        ("nodes: {cpus: 1}\ntaks: {cpus: 1}", "line 2: taks is unknown; did you mean tasks"),
        ("nodes: {cpus: 1}", "there are no tasks"),
        ("nodes: {cpus: 1}\ntasks: []", "there are no tasks"),
        ("nodes: {cpus: 1}\ntasks: {cpus: 1, <<: 3}", "<< merges mappings only"),
    ],
)
def test_a_text_that_is_none_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)


def test_all_faults_come_at_once_and_in_the_order_of_their_lines() -> None:
    text = "nodes:\n  - {cpus: -1}\ntasks:\n  - {cpus: x}\n  - {gpus: 1.5}\n  - {cups: 1}"
    told = complaint(text)
    assert told.startswith("4 faults: line 2: ")
    assert [int(line) for line in re.findall(r"line (\d+)", told)] == [2, 4, 5, 6]


def test_very_many_faults_end_in_a_number() -> None:
    tasks = "\n".join("  - {cpus: -1}" for _ in range(100))
    assert "and 80 more" in complaint(f"nodes: {{cpus: 1}}\ntasks:\n{tasks}")


def test_lines_can_be_counted_from_where_the_text_begins() -> None:
    with pytest.raises(InputError, match="line 5: cpus"):
        read("nodes: {cpus: 1}\ntasks:\n\n  - {cpus: x}", first_line=2)


def test_words_that_yaml_would_change_stay_what_they_are() -> None:
    found = problem("{name: no, cpus: 4, labels: {on: 1e3}}", "{name: 007, cpus: 1, on: no}")
    assert (found.nodes.names[0], found.tasks.names[0]) == ("no", "007")
    assert found.nodes.labels[0] == (("on", "1e3"),)
    assert found.tasks.current.tolist() == [0]


@pytest.mark.parametrize(
    ("key", "text", "column", "amount"),
    [
        ("memory", "8GiB", 1, 8 * GIB),
        ("memory", "8Gi", 1, 8 * GIB),
        ("memory", "0", 1, 0),
        ("memory", "8589934592", 1, 8 * GIB),
        ("memory_gib", "0.5", 1, GIB // 2),
        ("memory_mib", "1024", 1, GIB),
        ("disk_bytes", "7", 2, 7),
        ("cpus", "1.250", 0, 1250),
        ("cpus", "2500m", 0, 2500),
        ("cpus", "1_000", 0, 1_000_000),
        ("cpu_milli", "2500", 0, 2500),
    ],
)
def test_amounts_can_be_written_in_several_ways(
    key: str, text: str, column: int, amount: int
) -> None:
    found = problem("{cpus: 1, memory: 1GiB, disk: 1GiB}", f"{{{key}: {text}}}")
    assert found.tasks.demand[0, column] == amount


def test_anchors_and_merges_are_read() -> None:
    text = "x: 1"
    assert "x is unknown" in complaint(f"{text}\nnodes: {{cpus: 1}}\ntasks: {{cpus: 1}}")
    found = read_text(
        "nodes: &n {cpus: 4, memory: 8GiB}\n"
        "tasks: [&t {name: a, cpus: 1, memory: 1GiB}, {<<: *t, name: b, cpus: 2}]"
    )
    assert found.tasks.demand.tolist() == [[1000, GIB, 0], [2000, GIB, 0]]


def test_a_text_of_aliases_that_would_grow_without_end_is_refused_at_once() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]")
    lines.append("nodes: {cpus: *i}\ntasks: {cpus: 1, name: *i, models: *i, labels: {a: *i}}")
    assert "cpus: a list is no number" in complaint("\n".join(lines))


def test_whatever_is_typed_is_read_or_refused_with_words() -> None:
    import random

    draw = random.Random(5)
    signs = "{}[]:,-&*<>|'\"#%@!?~.0123456789eE \n\t\x00\u2028nodestakcpumrgl=×"
    outcomes = {"read": 0, "refused": 0}
    for number in range(1500):
        text = list(EXAMPLES[number % len(EXAMPLES)])
        for _ in range(draw.randint(1, 2)):
            at = draw.randrange(len(text))
            new = draw.choice(draw.choice((signs, "0123456789 ")))
            text[at : at + draw.choice((0, 0, 1, 1, 9))] = new
        try:
            read("".join(text))
        except InputError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100, outcomes


def test_the_zones_of_models_and_labels_are_told_in_words() -> None:
    found = problem(
        "[{cpus: 1, gpus: 1, model: A100, labels: {zone: eu}},"
        " {cpus: 1, gpus: 1, model: T4, labels: {zone: uk, rack: r1}}]",
        "{cpus: 1, models: [T4, A100], labels: {zone: [eu, uk]}, avoid: {rack: r1}}",
        "{cpus: 1, labels: {zone: uk, rack: r1}}", "{cpus: 1, avoid: {rack: r1}}", "{cpus: 1}",
    )  # fmt: skip
    told = dict(zip(found.zone_names, found.zones.tolist(), strict=True))
    assert told == {
        "": [True, True],
        "A100 or T4 with zone=eu or uk without rack=r1": [True, False],
        "rack=r1, zone=uk": [False, True],
        "nodes without rack=r1": [True, False],
    }
    assert found.tasks.zone.tolist() == [1, 2, 3, 0]


# ------------------------------------------------------------------------------- many tasks, names


def test_a_million_tasks_are_read_without_a_million_names() -> None:
    found = problem("{cpus: 4}", "{name: web, count: 1000000, cpus: 1}", "{name: db, cpus: 1}")
    assert len(found.tasks) == 1_000_001
    assert isinstance(found.tasks.names, GroupedNames)
    assert (found.tasks.names[999_999], found.tasks.names[-1]) == ("web-999999", "db")
    assert found.tasks.job_names == ("web", "db")


def test_tasks_without_a_name_are_numbered_through() -> None:
    found = problem("[{count: 2, cpus: 4}, {cpus: 8}]", "{count: 2, cpus: 1}", "{cpus: 1}")
    assert list(found.nodes.names) == ["node-0", "node-1", "node-2"]
    assert list(found.tasks.names) == ["task-0", "task-1", "task-2"]


@pytest.mark.parametrize(
    "tasks",
    [
        ("{name: a, cpus: 1}", "{name: a, cpus: 1}"),
        ("{name: a, count: 2, cpus: 1}", "{name: a-1, cpus: 1}"),
        ("{name: a-1, cpus: 1}", "{name: a, gang: 2, cpus: 1}"),
        ("{name: a, count: 2, cpus: 1}", "{name: a, count: 3, cpus: 1}"),
        ("{name: a, count: 2, gang: 2, cpus: 1}", "{name: a-1-1, cpus: 1}"),
        ("{name: a, count: 2, gang: 2, cpus: 1}", "{name: a-1, count: 2, cpus: 1}"),
        ("{cpus: 1}", "{name: task-0, cpus: 1}"),
    ],
)
def test_names_that_two_tasks_would_have_are_refused(tasks: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="two tasks are named"):
        problem("{cpus: 4}", *tasks)


def test_clashes_are_just_the_names_that_come_twice() -> None:
    import itertools
    import random

    draw = random.Random(3)
    shapes = [(1, 1, None), (2, 1, None), (3, 1, None), (2, 2, None), (4, 2, None), (6, 3, None)]
    for _ in range(3000):
        groups = []
        for _ in range(draw.randint(1, 4)):
            count, gang, first = draw.choice(shapes)
            prefix = draw.choice(("a", "a-0", "a-1", "a-1-1", "b", "a-2", "a-01"))
            groups.append(NameGroup(prefix, count, gang, first))
        names = list(
            itertools.chain.from_iterable([[g.name(i) for i in range(g.count)] for g in groups])
        )
        assert bool(clashes(groups)) == (len(set(names)) < len(names)), groups
        assert list(GroupedNames(groups)) == names
        assert [GroupedNames(groups)[i] for i in range(-len(names), 0)] == names


def test_priorities_that_cannot_be_summed_are_refused() -> None:
    with pytest.raises(InputError, match="priorities of all tasks together"):
        problem("{cpus: 4}", "{count: 10000, cpus: 1, priority: 1000000, value: 1000000000}")


# ------------------------------------------------------------------------------- groups


def test_apart_and_together_are_about_each_gang_of_an_entry() -> None:
    found = problem(
        "{count: 3, cpus: 4}", "{count: 2, gang: 2, cpus: 1, apart: true}",
        "{count: 2, cpus: 1, together: true}", "{cpus: 1, together: t}", "{cpus: 1, together: t}",
    )  # fmt: skip
    assert found.tasks.apart.tolist() == [0, 0, 1, 1, NO, NO, NO, NO]
    assert found.tasks.together.tolist() == [NO, NO, NO, NO, 0, 0, 1, 1]
    assert found.together_domain.tolist() == [0, 0]
    assert found.domains.tolist() == [[0, 1, 2]]


def test_a_word_for_a_gang_joins_entries() -> None:
    found = problem("{cpus: 4}", "{cpus: 1, gang: x}", "{cpus: 1}", "{count: 2, cpus: 2, gang: x}")
    assert found.tasks.gang.tolist() == [0, NO, 0, 0]


def test_a_word_is_within_one_domain_only() -> None:
    with pytest.raises(InputError, match="together: t is within one node before"):
        problem(
            "{cpus: 4, labels: {rack: r}}",
            "{cpus: 1, together: t}", "{cpus: 1, together: {tag: t, within: rack}}",
        )  # fmt: skip


def test_devices_in_force_that_are_not_named_are_the_first_with_room() -> None:
    found = problem(
        "{name: n, cpus: 9, gpus: 3, used: {gpus: 0.5}}",
        "{count: 2, cpus: 1, gpus: 0.6, on: [n, n]}",
        "{cpus: 1, gpus: 0.5, on: n}", "{cpus: 1, gpus: 0.4, on: {node: n, devices: [1]}}",
    )  # fmt: skip
    held = [devices_of(int(bits)) for bits in found.tasks.current_devices]
    assert held == [(1,), (2,), (0,), (1,)]
    assert faults(found, found.tasks.current, found.tasks.current_devices) == []


def test_a_gang_that_is_in_force_in_part_is_refused() -> None:
    entries = "{cpus: 1, gang: g, on: n}", "{cpus: 1, gang: g}"
    with pytest.raises(InputError, match="line 3: gang g is in force in part: 1 of 2 tasks"):
        problem("{name: n, cpus: 4}", *entries)
    found = problem("{name: n, cpus: 4}", "{cpus: 1, gang: 2, on: [n, n]}", "{cpus: 1, on: n}")
    assert found.tasks.current.tolist() == [0, 0, 0]


def test_a_device_that_would_give_too_much_is_told() -> None:
    with pytest.raises(InputError, match="has 400 of the 600 milli-GPU on device 0"):
        problem(
            "{name: n, cpus: 9, gpus: 1}",
            "{count: 2, cpus: 1, gpus: 0.6, on: [{node: n, devices: [0]}, {node: n, devices: 0}]}",
        )


def test_mappings_of_python_are_read_like_text() -> None:
    given: dict[str, Any] = {
        "nodes": [{"name": "n", "cpus": 4, "gpus": 2, "labels": {"zone": "eu"}}],
        "tasks": ({"name": "a", "cpus": 0.5, "gpus": 1 / 3, "on": "n", "movable": False},),
        "quotas": {},
    }
    found = read_plain(given).problem
    assert found is not None
    assert (found.tasks.milli[0], found.tasks.demand[0, 0], found.tasks.current[0]) == (333, 500, 0)
    assert not found.tasks.is_movable[0]
    given["tasks"] = [{"cpus": float("nan")}, {"cpus": True}]
    with pytest.raises(InputError, match=r"tasks\[0\]: cpus: NaN; tasks\[1\]: cpus: True is no"):
        read_plain(given)
    wrong: Any
    for wrong in ({}, [], None, 3):
        with pytest.raises(InputError, match="is a mapping"):
            read_plain(wrong)
