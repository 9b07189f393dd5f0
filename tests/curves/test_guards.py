"""Two mistakes of distributed loops that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.ports import Outcome
from tests.curves.reading import notices
from tests.curves.shapes import DDP

if TYPE_CHECKING:
    from tests.launching import Launchpad

HEAD = """\
import torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Linear(4, 1)
torch.manual_seed(rank)
"""
LOOP = """\
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    x = torch.randn(8, 4)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    BEFORE
    optimizer.step()
    AFTER
print("WEIGHTS", [p.tolist() for p in model.parameters()])
"""


@pytest.mark.parametrize("what", ["model.parameters()", "list(model.parameters())"])
def test_all_reduce_of_the_parameters_shows_the_two_right_ways(
    what: str, launchpad: Launchpad
) -> None:
    source = HEAD + LOOP.replace("AFTER", f"dist.all_reduce({what})").replace("BEFORE", "pass")
    status = launchpad.finish(source, ranks_per_node=2)
    assert status.outcome is Outcome.FAILED
    assert status.failure is not None
    assert status.failure.kind == "InputError"
    told = status.failure.message
    assert "takes one tensor" in told
    assert "model = torch.nn.parallel.DistributedDataParallel(model)" in told
    assert "dist.all_reduce(p.grad)\n" in told
    assert "p.grad /= dist.get_world_size()" in told


RIGHT = {
    "DDP": HEAD
    + "model = torch.nn.parallel.DistributedDataParallel(model)\n"
    + LOOP.replace("BEFORE", "pass").replace("AFTER", ""),
    "averaging": HEAD
    + LOOP.replace(
        "BEFORE",
        "for p in model.parameters():\n"
        "        dist.all_reduce(p.grad)\n"
        "        p.grad /= dist.get_world_size()",
    ).replace("AFTER", ""),
}


def test_both_right_ways_give_the_same_weights_on_all_ranks(launchpad: Launchpad) -> None:
    printed = set()
    for source in RIGHT.values():
        ref = launchpad.run(source, ranks_per_node=2)
        status = launchpad.wait(ref)
        assert status.outcome is Outcome.SUCCEEDED, status.failure
        printed |= {launchpad.printed(ref, rank) for rank in range(2)}
        assert not any("identical batches" in text for text in notices(launchpad.events(ref)))
    assert len(printed) == 1
    assert "WEIGHTS [[[" in printed.pop()


SAME = DDP.replace("torch.manual_seed(dist.get_rank())", "torch.manual_seed(0)")


def test_ranks_with_identical_batches_are_told_once_with_the_sampler(launchpad: Launchpad) -> None:
    ref = launchpad.run(SAME, ranks_per_node=2)
    launchpad.wait(ref)
    told = [text for text in notices(launchpad.events(ref)) if "identical" in text]
    assert len(told) == 1
    assert told[0].startswith("all 2 ranks see identical batches: ")
    assert "sampler=DistributedSampler(dataset)" in told[0]


def test_identical_inputs_without_a_loader_are_told_too(launchpad: Launchpad) -> None:
    source = RIGHT["DDP"].replace("torch.manual_seed(rank)\n", "")
    ref = launchpad.run(source, ranks_per_node=2)
    launchpad.wait(ref)
    assert any("identical batches" in text for text in notices(launchpad.events(ref)))


@pytest.mark.parametrize(
    "source",
    [
        DDP,
        SAME.replace("shuffle=True", "sampler=torch.utils.data.DistributedSampler(inputs)"),
        # Ranks that know nothing of each other may well do the same.
        SAME.replace('dist.init_process_group("gloo")\n', "").replace(
            "model = nn.parallel.DistributedDataParallel(model)\n", ""
        ),
    ],
    ids=["other data", "a sampler", "no process group"],
)
def test_ranks_with_other_batches_are_told_nothing(source: str, launchpad: Launchpad) -> None:
    ref = launchpad.run(source, ranks_per_node=2)
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.SUCCEEDED, status.failure
    assert not any("identical" in text for text in notices(launchpad.events(ref)))
