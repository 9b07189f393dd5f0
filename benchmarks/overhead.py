"""Steps per second under `%%aios_train` against bare torchrun with the same code, in pairs.

Two loops: the quickstart's (a small convolutional net on 4,000 images of MNIST's size) and a step
of about 1 ms, where a cost per step would show most. A rank measures itself, after a warm-up; the
figure is rank 0's.
"""

from __future__ import annotations

import os

from benchmarks._measure import Report, alternate, arguments, kernel, marked, own_home, torchrun

SETUP = """\
import time
import torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
torch.manual_seed(0)
"""
QUICKSTART = (
    SETUP
    + """\
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
net = nn.Sequential(
    nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
    nn.Flatten(), nn.Linear(800, 10),
)
model = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
digits = TensorDataset(torch.rand(4000, 1, 28, 28), torch.randint(0, 10, (4000,)))
loader = DataLoader(digits, batch_size=50, sampler=DistributedSampler(digits))
done, begun = 0, 0.0
for epoch in range(EPOCHS):
    if epoch == 2:
        begun = time.perf_counter()
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += epoch >= 2
if dist.get_rank() == 0:
    print("RATE", done / (time.perf_counter() - begun), flush=True)
del model, optimizer
dist.destroy_process_group()
"""
)
ONE_MS = (
    SETUP
    + """\
model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch = torch.randn(64, 256)
begun = 0.0
for step in range(STEPS + 300):
    if step == 300:
        begun = time.perf_counter()
    optimizer.zero_grad()
    model(batch).sum().backward()
    optimizer.step()
if dist.get_rank() == 0:
    print("RATE", STEPS / (time.perf_counter() - begun), flush=True)
del model, optimizer
dist.destroy_process_group()
"""
)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("overhead", "steps/s", "higher", options.json)
    os.environ["OMP_NUM_THREADS"] = "1"
    # As many ranks as cores: with more, the scheduler's luck is larger than what is looked for.
    ranks = min(2, os.cpu_count() or 1)
    pairs = 2 if options.quick else 10
    quickstart = QUICKSTART.replace("EPOCHS", "8" if options.quick else "30")
    one_ms = ONE_MS.replace("STEPS", "2000" if options.quick else "8000")
    with own_home(), kernel() as notebook:
        notebook.run("%load_ext jupyter_aios")

        def ours(code: str) -> float:
            return marked(notebook.run(f"%%aios_train --nodes {ranks}\n{code}"), "RATE")[0]

        def peer(code: str) -> float:
            return marked(torchrun(code, ranks)[1], "RATE")[0]

        ours(one_ms)
        figures = {}
        for name, code in (("quickstart", quickstart), ("one_ms_step", one_ms)):
            figures[name] = report.pair(
                f"{name}, {ranks} ranks",
                *alternate(pairs, lambda code=code: ours(code), lambda code=code: peer(code)),  # type: ignore[misc]
            )
    report.extra["one_ms_step"] = figures["one_ms_step"]
    report.finish(figures["quickstart"])


if __name__ == "__main__":
    main()
