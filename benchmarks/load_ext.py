"""Milliseconds of `%load_ext jupyter_aios` and of the first `%aios`, each in a fresh IPython.

The peer is `%load_ext ipyparallel`. The first `%aios` is measured with the controller up (what a
person meets all day) and with none (it is started then).
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks._measure import Report, alternate, arguments, own_home

PROGRAM = """\
import io, sys, time
from contextlib import redirect_stdout
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", sys.argv[1])
loaded = time.perf_counter()
if len(sys.argv) > 2:
    with redirect_stdout(io.StringIO()):
        shell.run_line_magic("aios", "")
ended = time.perf_counter()
print((loaded - begun) * 1000, (ended - loaded) * 1000)
"""


def run(*arguments: str) -> tuple[float, float]:
    """Return the milliseconds of the load and of the first `%aios` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    load, first = done.stdout.split()[-2:]
    return float(load), float(first)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("load_ext", "ms", "lower", options.json)
    pairs = 5 if options.quick else 25
    with own_home():
        from jupyter_aios.client import Client

        run("jupyter_aios")
        run("ipyparallel")
        load = report.pair(
            "%load_ext",
            *alternate(pairs, lambda: run("jupyter_aios")[0], lambda: run("ipyparallel")[0]),
        )
        down = []
        for _ in range(3 if options.quick else 7):
            Client().shutdown()
            wait_until_down()
            down.append(run("jupyter_aios", "first")[1])
        up = [run("jupyter_aios", "first")[1] for _ in range(pairs)]
        for name, values in (("controller_up", up), ("controller_down", down)):
            middle = sorted(values)[len(values) // 2]
            report.extra[f"first_aios_{name}_ms"] = round(middle, 1)
            report.line(f"{'first %aios, ' + name.replace('_', ' '):<28} ours {middle:>10.1f} ms")
    report.finish(load)


def wait_until_down() -> None:
    """Return when no controller answers any more."""
    import time

    from jupyter_aios.client import Client

    while Client().is_running():
        time.sleep(0.01)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
