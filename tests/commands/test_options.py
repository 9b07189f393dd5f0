from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.commands.arguments import Parser
from jupyter_aios.commands.options import TrainOptions, add_train_options, read_options
from jupyter_aios.core.entities import Backend, Launcher
from jupyter_aios.errors import InputError, UnknownNameError


def read(*tokens: str) -> TrainOptions:
    parser = Parser("%%aios_train", "")
    add_train_options(parser, in_notebook=True)
    return read_options(parser.read(tokens))


def test_nothing_said_is_the_defaults() -> None:
    assert read() == TrainOptions() == read_options({})


def test_everything_can_be_said_on_the_line_and_in_python() -> None:
    typed = read(
        "--nodes", "2x8", "--backend", "gloo", "--launcher", "torchrun", "--name", "mnist",
        "--push", "a,b", "--push", "c", "--pull=model", "--max-restarts", "2", "--timeout", "30min",
        "--detach", "--dry-run", "--on-interrupt", "detach", "--priority", "-5", "--cpus", "0.5",
        "--gpus", "8", "--memory", "4GiB", "--pull-limit", "1GiB", "--log-limit", "1MiB",
        "--seed", "7", "--no-autolog",
    )  # fmt: skip
    assert typed == TrainOptions(
        nodes=2, ranks_per_node=8, backend=Backend.GLOO, launcher=Launcher.TORCHRUN, name="mnist",
        push=("a", "b", "c"), pull=("model",), max_restarts=2, timeout_s=1800, detach=True,
        dry_run=True, on_interrupt="detach", priority=-5, cpu_milli=500, gpu_milli=8000,
        memory_bytes=2**32, pull_limit_bytes=2**30, log_limit_bytes=2**20, seed=7,
        autolog=False,
    )  # fmt: skip
    assert typed == read_options({
        "nodes": 2, "nproc_per_node": 8, "backend": Backend.GLOO, "launcher": "torchrun",
        "name": "mnist", "push": ["a", "b", "c"], "pull": "model", "max_restarts": 2,
        "timeout": 1800, "detach": True, "dry_run": True, "on_interrupt": "detach", "priority": -5,
        "cpus": 0.5, "gpus": 8, "memory": 2**32, "pull_limit": "1GiB", "log_limit": "1MiB",
        "seed": 7, "autolog": False,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--nodes", "0"], "--nodes 0: '0' is not a number of nodes"),
        (["--nodes", "10000"], "--nodes 10000: at most 4096 nodes"),
        (["--nodes", "1x9999"], "--nodes 1x9999: 1 to 1024 ranks fit on a node"),
        (["--nproc-per-node", "none"], "--nproc-per-node none: not a whole number"),
        (["--nodes", "2x4", "--nproc-per-node", "3"], "--nodes says 4 ranks on each node, --nproc"),
        (["--backend", "mpi"], "--backend mpi: one of auto, nccl, gloo"),
        (["--launcher", "ssh"], "--launcher ssh: one of warm, torchrun"),
        (["--on-interrupt", "x"], "--on-interrupt x: one of cancel, detach"),
        (["--seed", "-1"], "--seed -1: 0 to 4294967295"),
        (["--max-restarts", "-1"], "--max-restarts -1: 0 or more"),
        (["--memory", "lots"], "--memory lots: 'lots' is not an amount of memory"),
        (["--timeout", "soon"], "--timeout soon: 'soon' is not a duration"),
        (["--gpus", "some"], "--gpus some: 'some' is not a number of GPUs"),
        (["--pull", "a-b"], "--pull a-b: 'a-b' is not a variable's name"),
        (["--pull", "class"], "'class' is not a variable's name"),
        (["--name"], "--name: expected one argument"),
        (["stray"], "more than expected: stray"),
    ],
)
def test_bad_values_are_told_with_what_is_legal(tokens: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(*tokens)
    assert message in caught.value.message


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read("--nodes", "0", "--memory", "x", "--backend", "y")
    assert caught.value.message.startswith("3 faults: ")


@pytest.mark.parametrize(
    ("token", "near"),
    [("--nods", "--nodes"), ("--max-restart=3", "--max-restarts"), ("--gpu", "--gpus")],
)
def test_an_unknown_option_is_answered_with_the_nearest(token: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        read(token, "4")
    assert near in caught.value.hint


def test_an_unknown_keyword_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no option is named 'node'") as caught:
        read_options({"node": 2})
    assert "nodes" in caught.value.hint


@given(st.lists(st.text("-abdeghnopst=0123 ", max_size=10), max_size=6))
def test_any_line_is_understood_or_an_input_error(tokens: list[str]) -> None:
    parser = Parser("%%aios_train", "")
    add_train_options(parser, in_notebook=True)
    try:
        parsed = parser.read(tokens)
        if not parsed.help:
            read_options(parsed)
    except InputError as error:
        assert error.message  # noqa: PT017 - either outcome is right
