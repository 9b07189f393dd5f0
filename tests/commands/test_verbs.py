from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.commands import tree
from jupyter_aios.commands.__main__ import main
from jupyter_aios.commands.options import TrainOptions
from jupyter_aios.commands.submitting import make_spec
from jupyter_aios.core.entities import Attempt, Backend, Failure, UserId
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import PruneRequest
from jupyter_aios.errors import (
    CapacityError,
    DeniedError,
    InputError,
    ShippingError,
    StateError,
    TrainingError,
    UnknownNameError,
)
from jupyter_aios.training.packing.bundle import pack_cell
from tests.fake_client import FakeClient, FakePlace, job, node, output

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.commands.place import Place

DONE = job(JobState.SUCCEEDED, ended_at=1010.0, started_at=1005.0, attempt=1, nodes=2)


def place(**fields: Any) -> FakePlace:
    namespace = fields.pop("namespace", {})
    return FakePlace(fake=FakeClient(**{"jobs_here": [DONE], **fields}), namespace=namespace)


def said(line: str, where: Place) -> str:
    return repr(tree.run(line.split(), where))


# -------------------------------------------------------------------------------------- looking


def test_the_status_is_the_whole_at_a_glance_and_warms_up_once() -> None:
    here = place(jobs_here=[job(nodes=2), DONE])
    assert "jobs        1 running, 2 waiting" in said("status", here)
    assert "mnist  running  2" in said("status", here)
    assert [what for what in here.client.asked if what[0] == "warm"] == here.client.asked[:1]
    assert len(here.client.asked) == 1


def test_jobs_can_be_filtered_by_state() -> None:
    here = place(jobs_here=[job(nodes=2), DONE])
    assert "succeeded" not in said("jobs --state running", here)
    assert said("jobs --state failed", here) == "no jobs yet"
    with pytest.raises(UnknownNameError, match="no state is named 'runing'") as caught:
        said("jobs --state runing", here)
    assert "running" in caught.value.hint
    with pytest.raises(InputError, match="--limit x: a whole number"):
        said("jobs --limit x", here)


def test_nodes_say_what_is_free() -> None:
    assert "v0 (virtual)" in said("nodes", place())


def test_logs_are_the_lines_of_all_ranks_or_of_one() -> None:
    events = [output("a\n", 0), output("b\nc", 1, EventKind.STDERR)]
    assert said("logs mnist", place(replies=[(DONE, events), (DONE, [])])) == "[0] a\n[1] b\n[1] c"
    assert said("logs mnist --rank 1", place(replies=[(DONE, events), (DONE, [])])) == "b\nc"


def test_a_rank_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="mnist has no rank 7") as caught:
        said("logs mnist --rank 7", place())
    assert caught.value.hint == "its ranks are 0 to 1"


def test_a_long_log_shows_its_end_and_is_whole() -> None:
    text = "".join(f"{n}\n" for n in range(5000))
    one = job(JobState.SUCCEEDED)
    here = place(jobs_here=[one], replies=[(one, [output(text)]), (one, [])])
    log = tree.run(["logs", "mnist"], here)
    assert str(log).splitlines() == [str(n) for n in range(5000)]
    assert repr(log).splitlines()[0].startswith("… 3000 lines before these")
    assert repr(log).splitlines()[1:] == [str(n) for n in range(3000, 5000)]


def test_an_unknown_job_verb_or_option_is_answered_with_the_nearest() -> None:
    for line, near in (
        ("logs mnits", "mnist"), ("statsu", "status"), ("logs mnist --rnak 1", "--rank"),
    ):  # fmt: skip
        with pytest.raises(UnknownNameError) as caught:
            said(line, place())
        assert near in caught.value.hint


@pytest.mark.parametrize("verb", list(tree.VERBS))
def test_every_verb_explains_itself(verb: str) -> None:
    where = place(namespace={} if tree.VERBS[verb].in_notebook else None)
    text = said(f"{verb} -h", where)
    assert text.startswith(f"usage: %aios {verb}")
    assert tree.VERBS[verb].summary in text


def test_the_overview_lists_the_verbs_of_the_place() -> None:
    assert "submit" not in said("-h", place())
    assert "submit" in said("-h", place(namespace=None))


@pytest.mark.parametrize("line", ["logs", "cancel", "jobs x", "attach mnist --on-interrupt x"])
def test_missing_and_superfluous_arguments_are_told_in_one_line(line: str) -> None:
    with pytest.raises(InputError) as caught:
        said(line, place())
    assert "\n" not in caught.value.message


# --------------------------------------------------------------------------------------- acting


def test_cancel_gives_the_job_back() -> None:
    here = place(jobs_here=[job(nodes=2)])
    assert said("cancel mnist", here).splitlines()[0].startswith("Job mnist: running, 2 ranks on")
    assert here.client.asked == [("cancel", DONE.id)]


def test_attach_shows_a_failed_job_and_raises_its_failure() -> None:
    failure = Failure(1, "ValueError", "bad", "Traceback")
    failed = replace(
        DONE, state=JobState.FAILED, reason="rank 1 raised ValueError: bad",
        attempts=(Attempt(DONE.id, 1, 0.0, failure=failure),),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="Traceback"):
        said("attach mnist", place(jobs_here=[failed], replies=[(failed, []), (failed, [])]))


def test_prune_wants_to_know_which() -> None:
    with pytest.raises(InputError, match="which"):
        said("prune", place())
    here = place()
    assert said("prune --older-than 7d --keep 0", here) == "removed 2 jobs, freed 3 MiB"
    assert here.client.asked == [PruneRequest(7 * 86400, 0, ())]


# -------------------------------------------------------------------------------------- pulling


def state_bytes(tmp_path: Path, state: dict[str, Any]) -> bytes:
    import torch

    torch.save(state, tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


def test_variables_are_bound_and_weights_loaded_in_place(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(2, 1)
    names: dict[str, Any] = {"model": model}
    theirs = {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}
    kept = {
        "model": ("state", state_bytes(tmp_path, theirs)),
        "other": ("state", state_bytes(tmp_path, theirs)),
        "history": ("pickle", pickle.dumps([1, 2])),
        "return": ("pickle", pickle.dumps(5)),
    }
    text = said("pull mnist", place(kept=kept, namespace=names))
    assert model.weight.tolist() == [[1, 1]]
    assert names["model"] is model
    assert names["history"] == [1, 2]
    assert sorted(names["other"]) == ["module.bias", "module.weight"]
    assert "return" not in names
    assert "model: 2 weights loaded into the notebook's own" in text


def test_weights_of_another_shape_change_nothing(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(2, 1)
    before = model.weight.tolist()
    names: dict[str, Any] = {"model": model}
    theirs = {"weight": torch.ones(3, 2), "extra": torch.zeros(1)}
    kept = {
        "history": ("pickle", pickle.dumps([1])),
        "model": ("state", state_bytes(tmp_path, theirs)),
    }
    with pytest.raises(InputError) as caught:
        said("pull mnist", place(kept=kept, namespace=names))
    assert caught.value.message == (
        "the weights of model do not fit the notebook's model: bias is missing in the job's;"
        " extra is not in the notebook's; weight is 1x2 here and 3x2 in the job"
    )
    assert model.weight.tolist() == before
    assert list(names) == ["model"]


def test_what_was_not_kept_is_told_with_its_reason() -> None:
    kept = {"opt": ("cannot be pickled: TypeError: no", b""), "x": ("pickle", pickle.dumps(1))}
    assert said("pull mnist", place(kept=kept)).startswith("x: int")
    with pytest.raises(ShippingError, match="opt of mnist was not kept: cannot be pickled"):
        said("pull mnist opt", place(kept=kept))
    with pytest.raises(InputError, match="mnist kept no nope"):
        said("pull mnist nope", place(kept=kept))
    assert "started without --pull" in said("pull mnist", place())


def test_more_than_the_limit_is_not_fetched() -> None:
    kept = {"x": ("pickle", pickle.dumps(bytes(3000)))}
    with pytest.raises(CapacityError) as caught:
        said("pull mnist --limit 1KiB", place(kept=kept))
    assert caught.value.hint.startswith("%aios pull mnist x --limit 3")


def test_a_pickle_of_somebody_elses_job_is_not_loaded() -> None:
    theirs = replace(DONE, owner=UserId("mallory"))
    with pytest.raises(DeniedError):
        said("pull mnist", place(jobs_here=[theirs], kept={"x": ("pickle", b"")}))


def test_pull_waits_for_the_end() -> None:
    with pytest.raises(StateError, match="mnist is running"):
        said("pull mnist", place(jobs_here=[job(nodes=2)]))


def test_the_command_line_writes_files(tmp_path: Path) -> None:
    kept = {"x": ("pickle", b"content")}
    said(f"pull mnist --to {tmp_path}", place(kept=kept, namespace=None))
    assert (tmp_path / "x.pickle").read_bytes() == b"content"
    with pytest.raises(InputError, match="is not a folder"):
        said(f"pull mnist --to {tmp_path}/none", place(kept=kept, namespace=None))


# ----------------------------------------------------------------------------------- submitting


def test_nccl_without_gpus_starts_nothing() -> None:
    literal = pack_cell("\nimport x\nx.init_process_group('nccl')", {}, first_line=2)
    plain = pack_cell("1", {})
    nodes = [node("v0"), node("v1")]
    with pytest.raises(InputError, match="line 4 asks for nccl") as caught:
        make_spec(literal, TrainOptions(), nodes)
    assert "--backend gloo" in caught.value.hint
    with pytest.raises(InputError, match="--backend nccl needs a GPU"):
        make_spec(plain, TrainOptions(backend=Backend.NCCL), nodes)
    assert make_spec(literal, TrainOptions(backend=Backend.GLOO), nodes).backend is Backend.GLOO


def test_each_rank_gets_a_gpu_where_there_are_enough() -> None:
    packed, nodes = pack_cell("1", {}), [node("a", gpu_milli=4000), node("b", gpu_milli=4000)]
    assert make_spec(packed, TrainOptions(nodes=2), nodes).resources.gpu_milli == 1000
    both = make_spec(packed, TrainOptions(nodes=2, ranks_per_node=4), nodes)
    assert (both.resources.gpu_milli, both.world_size) == (4000, 8)
    assert make_spec(packed, TrainOptions(nodes=3), nodes).resources.gpu_milli == 0
    spec = make_spec(packed, TrainOptions(gpu_milli=2000), nodes)
    assert spec.ranks_per_node == 2


def test_a_script_is_submitted_with_its_arguments(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print(1)")
    here = place(namespace=None)
    line = f"submit {script} --nodes 2 --detach --name s -- --lr 0.1"
    assert said(line, here).startswith("Job s: queued, 2 ranks")
    spec = here.client.asked[-1]
    assert (spec.argv, spec.nodes, spec.code.files[0].original) == (("--lr", "0.1"), 2, str(script))


def test_submit_is_for_the_command_line() -> None:
    with pytest.raises(InputError, match="submit is for the command line"):
        said("submit x.py", place())


# ------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("tokens", "code", "text"),
    [
        (["-h"], 0, "jupyter aios status"),
        (["nope"], 2, "UnknownNameError: no verb is named 'nope'"),
        (["logs"], 2, "the following arguments are required: NAME"),
        (["submit", "none.py"], 2, "the script none.py cannot be read: No such file"),
    ],
)
def test_exit_codes(
    tokens: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tokens) == code
    captured = capsys.readouterr()
    assert text in captured.out + captured.err
