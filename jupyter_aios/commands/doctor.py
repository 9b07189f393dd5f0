"""`doctor`: each thing that has to be right, whether it is, and what to do where it is not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.commands.verdicts import show_verdict
from jupyter_aios.core.home import home_folder, socket_candidates
from jupyter_aios.core.units import format_bytes
from jupyter_aios.core.version import __version__
from jupyter_aios.errors import AiosError
from jupyter_aios.widgets.text.table import aligned

if TYPE_CHECKING:
    import argparse

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place
    from jupyter_aios.widgets.text.table import Text

_LOW_DISK_BYTES = 2**30
_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
gloo = dist.is_available() and dist.is_gloo_available()
nccl = dist.is_available() and dist.is_nccl_available()
print(json.dumps([torch.__version__, torch.cuda.device_count(), gloo, nccl]))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    is_good: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class Findings:
    """All checks; they draw themselves as lines."""

    checks: tuple[Check, ...]

    @property
    def is_good(self) -> bool:
        """True where nothing has to be done."""
        return all(check.is_good for check in self.checks)

    def __repr__(self) -> str:
        lines = [["", "", ""]]
        for check in self.checks:
            remedy = f" → {check.remedy}" if check.remedy else ""
            lines.append(["ok" if check.is_good else "!!", check.what, check.found + remedy])
        return aligned(lines).lstrip("\n")


def add_job(parser: Parser) -> None:
    """Declare the job that may be asked for."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a job: what holds its ranks up, and where"
    )


def examine(arguments: argparse.Namespace, place: Place) -> Findings | Text:
    """Look at versions, torch, the home, the controller, and its warm processes; or at a job."""
    if arguments.name:
        return show_verdict(place.client, place.client.job(arguments.name))
    checks = [
        Check("jupyter_aios", is_good=True, found=__version__),
        _python(),
        _platform(),
        _torch(),
        *_home(),
        *_controller(place),
    ]
    return Findings(tuple(checks))


def _python() -> Check:
    version = platform.python_version()
    is_good = sys.version_info >= (3, 10)
    remedy = "" if is_good else "make an environment with Python 3.10 or newer"
    return Check("python", is_good, f"{version}, {sys.executable}", remedy)


def _platform() -> Check:
    system = platform.system()
    remedy = {
        "Linux": "",
        "Darwin": "--launcher torchrun; macOS is untested",
    }.get(system, "use WSL")
    return Check("system", system == "Linux", f"{system} {platform.release()}", remedy)


def _torch() -> Check:
    """Import torch in another process: a broken one must not take this one along."""
    install = f"{sys.executable} -m pip install torch"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=True
        )
        version, gpus, gloo, nccl = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Check("torch", is_good=False, found=last, remedy=install)
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return Check("torch", is_good=False, found=f"does not import: {error}", remedy=install)
    backends = ", ".join(name for name, there in (("gloo", gloo), ("nccl", nccl)) if there)
    return Check("torch", is_good=gloo, found=f"{version}, {gpus} GPUs, {backends or 'no backend'}")


def _home() -> list[Check]:
    try:
        home = home_folder({"HOME": str(Path.home()), **os.environ})
    except AiosError as error:
        return [Check("home", is_good=False, found=error.message, remedy=error.hint)]
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    is_writable = os.access(there, os.W_OK)
    sockets = socket_candidates(home, os.environ, os.getuid())
    elsewhere = "set AIOS_HOME=/a/folder/of/yours"
    return [
        Check("home", is_writable, str(home), "" if is_writable else elsewhere),
        Check(
            "disk",
            free >= _LOW_DISK_BYTES,
            f"{format_bytes(free)} free",
            "" if free >= _LOW_DISK_BYTES else "%aios prune --older-than 7d",
        ),
        Check("socket", is_good=bool(sockets), found=str(sockets[0]) if sockets else "no place"),
    ]


def _controller(place: Place) -> list[Check]:
    try:
        hello = place.client.hello()
    except AiosError as error:
        return [Check("controller", is_good=False, found=error.message, remedy=error.hint)]
    is_same = hello.version == __version__
    skew = "restart the kernel" if not is_same else ""
    checks = [
        Check("controller", is_same, f"version {hello.version}, process {hello.pid}", skew),
        Check(
            "jobs",
            is_good=not hello.trouble,
            found=f"{hello.jobs_running} running, {hello.jobs_queued} waiting",
            remedy=hello.trouble,
        ),
    ]
    return checks + [Check("warm", is_good=True, found=line) for line in hello.warm]
