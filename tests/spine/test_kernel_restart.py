"""Jupyter interrupts a kernel before it restarts it or shuts it down: no job is meant by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.states import JobState
from tests.spine.kernels import over

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.client import Client
    from tests.spine.kernels import Kernels

WAITER = """\
import pathlib, time
print("waiting", flush=True)
while not pathlib.Path("enough").exists():
    time.sleep(0.02)
print("goes on")
"""


def test_a_job_goes_on_when_its_kernel_is_ended_by_the_menu(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    kernel = kernels.start()
    cell = kernel.begin(f"%%aios_train --name goes-on\n{WAITER}")
    cell.until(lambda c: "waiting" in c.lines, "it prints")
    kernel.manager.shutdown_kernel(now=False)
    assert client.job("goes-on").state is JobState.RUNNING
    (tmp_path / "enough").touch()
    assert over(client, "goes-on").state is JobState.SUCCEEDED
