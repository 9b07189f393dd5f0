"""A run is repeated: bit for bit with its seed, by name, after the kernel and the code are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.launching import eventually
from tests.spine.kernels import over

if TYPE_CHECKING:
    from jupyter_aios.client import Client
    from tests.spine.kernels import Kernels

# One worker: the file's tests share a home.
pytestmark = [pytest.mark.xdist_group("rerun"), pytest.mark.usefixtures("shared_home")]

TRAIN = """\
%%aios_train --nodes 2 --name curves --pull model,losses
import random, numpy, torch
import torch.distributed as dist
dist.init_process_group()
layers = [torch.nn.Linear(8, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)]
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers))
optimizer = torch.optim.Adam(model.parameters())
rows = torch.utils.data.TensorDataset(data)
losses = []
for (batch,) in torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True):
    loss = model(batch + random.random() + numpy.random.rand()).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(losses[-1], list({"red", "green", "blue"}))
"""


def test_two_runs_with_one_seed_are_equal_bit_for_bit(kernels: Kernels, client: Client) -> None:
    kernel = kernels.start()
    kernel.run("import torch\ndata = torch.linspace(-1, 1, 800).reshape(100, 8)")
    first = kernel.run(TRAIN)
    assert not first.error + first.stderr
    old = client.job("curves")
    kernel.run("job = _")
    record = kernel.value("job.record").splitlines()
    assert record[1] == f"seed      {old.spec.seed}"
    assert "options   --nodes 2 --name curves --pull model,losses" in record
    # The notebook goes on: neither its variables nor the kernel matter any more.
    kernel.run("data = None")
    kernel.close()
    kernels.started.clear()
    kernel = kernels.start()
    again = kernel.run("%aios rerun curves --name again")
    assert not again.error + again.stderr
    assert sorted(again.lines) == sorted(first.lines)
    new = client.job("again")
    assert old.spec.seed is not None
    assert (new.spec.seed, new.spec.record.rerun_of) == (old.spec.seed, old.id)
    assert new.spec.record.code_hash == old.spec.record.code_hash
    kernel.run("import torch, jupyter_aios as aios")
    kernel.run("a, b = aios.job('curves').result, aios.job('again').result")
    assert kernel.value("len(a['losses']), a['losses'] == b['losses']") == "(7, True)"
    assert kernel.value("all(torch.equal(v, b['model'][k]) for k, v in a['model'].items())") == (
        "True"
    )
    other = kernel.run(TRAIN.replace("--name", f"--seed {old.spec.seed + 1} --name").replace(
        "(data)", "(torch.linspace(-1, 1, 800).reshape(100, 8))"
    ))  # fmt: skip
    assert sorted(other.lines) != sorted(first.lines)


def test_a_rerun_takes_the_name_of_what_is_over_and_not_of_what_runs(
    kernels: Kernels, client: Client
) -> None:
    kernel = kernels.start()
    kernel.run("%%aios_train --name named\nprint(1)")
    assert "1" in kernel.run("%aios rerun named").lines
    assert client.job("named").spec.record.rerun_of
    wait = "import time\nwhile True: time.sleep(0.02)"
    kernel.run(f"%%aios_train --name busy --detach\n{wait}")
    refused = kernel.run("%aios rerun busy --detach").error.splitlines()
    assert refused[0].startswith("StateError: a job named 'busy' is ")
    assert refused[1] == "hint: take another --name, or %aios cancel busy"
    client.cancel("busy")
    over(client, "busy")


def test_a_pruned_job_cannot_be_repeated(kernels: Kernels) -> None:
    kernel = kernels.start()
    kernel.run("%%aios_train --name pruned\nprint(1)", "%aios prune pruned")
    error = kernel.run("%aios rerun pruned").error
    assert error.startswith("UnknownNameError: no job is named 'pruned'")


def test_a_fresh_controller_has_as_many_nodes_as_asked_for_and_jobs_go_on(
    kernels: Kernels, client: Client
) -> None:
    kernel = kernels.start()
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    kernel.run(f"%%aios_train --nodes 2 --name through --detach\n{wait}\nprint('through')")
    eventually(lambda: client.job("through").state.value == "running", "through runs")
    before = client.hello().pid
    refused = kernel.run("%%aios_train --nodes 9\nprint(1)").error
    assert refused.endswith("set AIOS_VIRTUAL_NODES=9 and type %aios restart")
    said = kernel.run("%env AIOS_VIRTUAL_NODES=9", "%aios restart").result
    assert client.hello().pid != before
    assert said.endswith("with 9 nodes; 1 running and 0 waiting jobs go on")
    (kernel.cwd / "go").touch()
    assert over(client, "through").state.value == "succeeded"
    assert client.job("through").attempt == 1
    kernel.run("%env AIOS_VIRTUAL_NODES=4", "%aios restart")
    assert len(client.nodes()) == 4
