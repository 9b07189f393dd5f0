"""What the benchmarks share: pairs, intervals, a kernel to type into, and the last line."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESAMPLES = 4000


def arguments(description: str) -> argparse.Namespace:
    """Return the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s")
    parser.add_argument("--json", action="store_true", help="print only the last line, JSON")
    return parser.parse_args()


def ratio_interval(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the pairs' ratios ours/peer, with its 95 % bootstrap interval."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    draw = random.Random(0)  # noqa: S311 - resampling, not keys
    medians = sorted(
        statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
    )
    return (
        statistics.median(ratios),
        medians[round(0.025 * RESAMPLES)],
        medians[round(0.975 * RESAMPLES) - 1],
    )


@dataclass
class Report:
    """The figures of one benchmark; `finish` prints them."""

    benchmark: str
    unit: str
    better: str
    """`lower` or `higher`."""
    is_json: bool
    extra: dict[str, Any] = field(default_factory=dict)

    def line(self, text: str) -> None:
        """Print a readable line."""
        if not self.is_json:
            print(text, flush=True)

    def pair(self, what: str, ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
        """Print one comparison and return its figures."""
        ratio, low, high = ratio_interval(ours, peer)
        figures = {
            "ours": round(statistics.median(ours), 4),
            "peer": round(statistics.median(peer), 4),
            "ratio": round(ratio, 4),
            "interval": [round(low, 4), round(high, 4)],
            "n": len(ours),
        }
        self.line(
            f"{what:<28} ours {figures['ours']:>10} {self.unit}   peer {figures['peer']:>10}"
            f" {self.unit}   ratio {ratio:.3f} [{low:.3f}, {high:.3f}]   n={len(ours)}"
        )
        return figures

    def finish(self, main: dict[str, Any]) -> None:
        """Print the last line."""
        print(
            json.dumps(
                {
                    "benchmark": self.benchmark,
                    **main,
                    "unit": self.unit,
                    "better": self.better,
                    "versions": versions(),
                    **self.extra,
                }
            )
        )


def versions() -> dict[str, str]:
    """Return what was measured with."""
    names = ("jupyter-aios", "torch", "ipykernel", "ipyparallel")
    found = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    for name in names:
        with contextlib.suppress(ImportError):
            found[name] = version(name)
    return found


@contextlib.contextmanager
def own_home() -> Iterator[Path]:
    """Give a home of its own, and end its controller."""
    from jupyter_aios.client import Client

    home = Path(tempfile.mkdtemp(prefix="aios-bench-"))
    before = os.environ.get("AIOS_HOME")
    os.environ["AIOS_HOME"] = str(home)
    try:
        yield home
    finally:
        with contextlib.suppress(Exception):
            Client().shutdown()
        os.environ.pop("AIOS_HOME")
        if before is not None:
            os.environ["AIOS_HOME"] = before
        shutil.rmtree(home, ignore_errors=True)


class Kernel:
    """A real ipykernel, typed into as a notebook does."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def run(self, cell: str, timeout_s: float = 300.0) -> str:
        """Execute a cell and return what it printed; an error ends the benchmark."""
        texts: list[str] = []

        def take(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                texts.append(message["content"]["text"])
            elif message["msg_type"] == "comm_msg":
                texts.extend(_shown(message["content"]["data"].get("content", {})))
            elif message["msg_type"] == "error":
                texts.append("\n".join(message["content"]["traceback"]))

        reply = self.client.execute_interactive(cell, timeout=timeout_s, output_hook=take)
        printed = "".join(texts)
        if reply["content"]["status"] != "ok":
            sys.exit(f"the cell failed:\n{printed}")
        return printed

    def close(self) -> None:
        """Shut the kernel down."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def _shown(told: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that a live view is told, which are what a person sees of the ranks."""
    if told.get("type") == "news":
        yield from (f"{text}\n" for _, _, text in told["lines"])


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    """Give a kernel for the duration."""
    opened = Kernel()
    try:
        yield opened
    finally:
        opened.close()


def torchrun(script: str, ranks: int) -> tuple[float, str]:
    """Run `script` under torchrun; return when it was started (wall clock) and what it printed.

    A run that aborts at its end (gloo's teardown does, once in some dozens) is repeated.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(script)
        for _ in range(3):
            begun = time.time()
            done = subprocess.run(
                [*command, f"--nproc-per-node={ranks}", f"--log-dir={folder}/logs", str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return begun, done.stdout
    sys.exit(f"torchrun failed three times:\n{done.stderr}")


def marked(text: str, mark: str) -> list[float]:
    """Return the numbers after each `MARK `; two ranks of torchrun may print on one line."""
    return [float(number) for number in re.findall(mark + r" ([0-9]+\.[0-9]+)", text)]


def alternate(
    times: int, first: Callable[[], float], second: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Return `times` figures of each, taken in turn, so that drift meets both."""
    ours, peer = [], []
    for _ in range(times):
        ours.append(first())
        peer.append(second())
    return ours, peer
