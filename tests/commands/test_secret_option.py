from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.commands.arguments import Parser
from jupyter_aios.commands.options import TrainOptions, add_train_options, read_options
from jupyter_aios.commands.submitting import make_spec, plan_text
from jupyter_aios.core.entities import Allocation, Job, JobId, NodeId, Placement, UserId
from jupyter_aios.core.secrets import SecretUse
from jupyter_aios.core.states import JobState
from jupyter_aios.core.submission import spec_faults
from jupyter_aios.errors import InputError
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.training.packing.bundle import pack_script

if TYPE_CHECKING:
    from pathlib import Path


def read(*tokens: str) -> TrainOptions:
    parser = Parser("%%aios_train", "")
    add_train_options(parser, in_notebook=True)
    return read_options(parser.read(tokens))


def test_secrets_are_asked_for_one_by_one_each_once() -> None:
    typed = read("--secret", "HF_TOKEN", "--secret=eve/KEY:THE_KEY", "--secret", "HF_TOKEN")
    assert typed.secrets == (SecretUse("HF_TOKEN"), SecretUse("KEY", "THE_KEY", "eve"))
    assert read_options({"secret": ["HF_TOKEN", "eve/KEY:THE_KEY"]}).secrets == typed.secrets
    assert read_options({"secret": "HF_TOKEN"}).secrets == (SecretUse("HF_TOKEN"),)


@pytest.mark.parametrize(
    "tokens",
    [("--secret", "HF=hf_Qx7tLw29"), ("--secret=HF=hf_Qx7tLw29",), ("--secret", "HF:hf_Qx7tLw29+")],
)
def test_a_value_that_was_typed_is_refused_and_not_repeated(tokens: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        read(*tokens)
    assert caught.value.message.startswith("--secret: the va")
    assert "hf_Qx" not in str(caught.value)


def test_a_typed_value_is_not_in_the_list_of_faults() -> None:
    with pytest.raises(InputError) as caught:
        read("--seed", "x", "--secret", "hf_Qx7tLw29+")
    assert "2 faults: --seed x" in caught.value.message
    assert "hf_Qx" not in str(caught.value)


def test_two_secrets_in_one_variable_are_refused() -> None:
    with pytest.raises(InputError, match="the variable V is for both A and B"):
        read("--secret", "A:V", "--secret", "B:V")


def test_ranks_that_exist_already_get_no_more_secrets() -> None:
    with pytest.raises(InputError, match="--secret cannot be changed any more"):
        read("--on", "train-1", "--secret", "HF_TOKEN")


def test_the_plan_tells_how_each_secret_comes_to_the_code(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('x')\n")
    packed = pack_script(str(script))
    engine = FakeEngine(tmp_path)
    options = read("--secret", "HF_TOKEN", "--secret", "eve/KEY:THE_KEY")
    spec = make_spec(packed, options, engine.nodes())
    assert spec_faults(spec) == []
    job = Job(JobId("20261125-120000-abcdef"), UserId("ada"), spec, JobState.PLACED, 0.0)
    plan = engine.plan(job, Allocation((Placement(0, NodeId("v0")),)), 1)
    lines = str(repr(plan_text(plan, packed, spec))).splitlines()
    assert 'secret       HF_TOKEN: aios.secret("HF_TOKEN")' in lines
    expected = 'aios.secret("KEY"), and the variable THE_KEY of the ranks'
    assert f"secret       eve/KEY:THE_KEY: {expected}" in lines
