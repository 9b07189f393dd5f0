"""Seconds from submitting a prepared cell to the first optimizer step that all ranks completed.

Ours is a `%%aios_train` cell executed in a real kernel: magic, client, controller, zygote, agent
and ranks are included. The peer is torchrun with the same code. The process that comes first is
warm on neither side but ours, which is the point of it; cold starts are printed too.
"""

from __future__ import annotations

import contextlib
import os
import time

from benchmarks._measure import Report, alternate, arguments, kernel, marked, own_home, torchrun

CODE = r"""\
import time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(784, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    model(torch.randn(64, 784)).sum().backward()
    optimizer.step()
    if step == 0:
        print(f"FIRST {time.time()!r}\n", end="", flush=True)  # one write: ranks share a pipe
del model, optimizer
dist.destroy_process_group()
"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("launch", "s", "lower", options.json)
    os.environ["OMP_NUM_THREADS"] = "1"
    with own_home() as home, kernel() as notebook:
        notebook.run("%load_ext jupyter_aios")

        def ours(ranks: int, options: str = "") -> float:
            begun = time.time()
            printed = notebook.run(f"%%aios_train --nodes {ranks} {options}\n{CODE}")
            steps = marked(printed, "FIRST")
            assert len(steps) == ranks, printed
            return max(steps) - begun

        def peer(ranks: int) -> float:
            begun, printed = torchrun(CODE, ranks)
            return max(marked(printed, "FIRST")) - begun

        report.extra["cold_s"] = round(ours(2), 3)
        report.line(f"{'cold, nothing runs yet':<28} ours {report.extra['cold_s']:>10} s")
        report.extra["second_job_s"] = round(ours(2), 3)
        report.line(f"{'second job':<28} ours {report.extra['second_job_s']:>10} s")
        pairs = 2 if options.quick else 7
        two = report.pair("2 ranks, warm", *alternate(pairs, lambda: ours(2), lambda: peer(2)))
        if options.quick:
            four_ours, four_peer = alternate(1, lambda: ours(4), lambda: peer(4))
        else:
            four_ours, four_peer = alternate(pairs, lambda: ours(4), lambda: peer(4))
        four = report.pair("4 ranks, warm", four_ours, four_peer)
        notebook.run("import os; os.environ['OMP_PROC_BIND'] = 'false'")
        report.extra["changed_environment_s"] = round(ours(2), 3)
        report.line(
            f"{'changed environment (cold)':<28} ours {report.extra['changed_environment_s']:>10} s"
        )
        report.extra["zygote_bytes"] = zygote_bytes(str(home))
        report.line(f"{'memory of the zygote':<28} {report.extra['zygote_bytes'] / 2**20:.0f} MiB")
    report.extra["four_ranks"] = four
    report.finish(two)


def zygote_bytes(home: str) -> int:
    """Return the resident memory of the largest warm process of this home."""
    import psutil

    sizes = [0]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_zygote = "jupyter_aios.training.zygote" in process.cmdline()
            if is_zygote and process.environ().get("AIOS_HOME") == home:
                sizes.append(process.memory_info().rss)
    return max(sizes)


if __name__ == "__main__":
    main()
