"""This machine's resources, and its division into virtual nodes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import MAX_VIRTUAL_NODES, Device, Node, NodeId, Resources
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_VIRTUAL_NODES = 4
_MIB = 2**20


def virtual_nodes(environment: Mapping[str, str]) -> tuple[Node, ...]:
    """Return this machine as K equal virtual nodes (`AIOS_VIRTUAL_NODES`, default 4).

    CPUs and memory are shared out evenly, GPUs are dealt round.

    Raises:
        InputError: AIOS_VIRTUAL_NODES is no number from 1 to 64.

    """
    text = environment.get("AIOS_VIRTUAL_NODES", str(DEFAULT_VIRTUAL_NODES))
    if not text.isdigit() or not 1 <= int(text) <= MAX_VIRTUAL_NODES:
        msg = f"AIOS_VIRTUAL_NODES is {text!r}"
        raise InputError(msg, hint=f"set a number from 1 to {MAX_VIRTUAL_NODES}")
    count = int(text)
    cpu_milli = usable_cpus() * MILLI // count
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // count
    devices = gpus()
    nodes = []
    for index in range(count):
        own = devices[index::count]
        capacity = Resources(
            cpu_milli=cpu_milli, memory_bytes=memory_bytes, gpu_milli=len(own) * MILLI
        )
        nodes.append(
            Node(
                id=NodeId(f"v{index}"),
                machine=socket.gethostname(),
                engine="local",
                capacity=capacity,
                devices=own,
                is_virtual=True,
            )
        )
    return tuple(nodes)


def usable_cpus() -> int:
    """Return the CPUs that this process may use: a container may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> tuple[Device, ...]:
    """Return this machine's NVIDIA GPUs, asked of the driver's own tool; none without it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        # The tool without a driver: the machine has no usable GPU.
        return ()
    devices = []
    for line in answer.stdout.splitlines():
        index, model, memory = (part.strip() for part in line.split(","))
        devices.append(Device(int(index), model, int(memory) * _MIB))
    return tuple(devices)
