"""A GAN that draws digits of 8 x 8 pixels: two models, two optimizers, two losses."""

import json

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

NOISE = 16
REAL, FAKE = 1.0, 0.0

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(11 + rank)

images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
dataset = TensorDataset(images)
sampler = DistributedSampler(dataset)
loader = DataLoader(dataset, batch_size=32, sampler=sampler, drop_last=True)

generator = DDP(
    nn.Sequential(
        nn.Linear(NOISE, 64), nn.LeakyReLU(0.2), nn.Linear(64, 128), nn.LeakyReLU(0.2),
        nn.Linear(128, 64), nn.Tanh(),
    )
)
discriminator = DDP(
    nn.Sequential(
        nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 64),
        nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(64, 1),
    ),
    # It runs on real and on fake images before it is updated.
    broadcast_buffers=False,
)
criterion = nn.BCEWithLogitsLoss()
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))

for epoch in range(6):
    sampler.set_epoch(epoch)
    for (real,) in loader:
        size = len(real)
        discriminator.zero_grad()
        loss_real = criterion(discriminator(real).view(-1), torch.full((size,), REAL))
        loss_real.backward()
        fake = generator(torch.randn(size, NOISE))
        loss_fake = criterion(discriminator(fake.detach()).view(-1), torch.full((size,), FAKE))
        loss_fake.backward()
        optimizer_d.step()

        generator.zero_grad()
        loss_g = criterion(discriminator(fake).view(-1), torch.full((size,), REAL))
        loss_g.backward()
        optimizer_g.step()
    if rank == 0:
        loss_d = loss_real.item() + loss_fake.item()
        print(f"[{epoch}] Loss_D: {loss_d:.4f} Loss_G: {loss_g.item():.4f}")

with torch.no_grad():
    drawn = generator(torch.randn(256, NOISE)).mean().item()
if rank == 0:
    print(json.dumps({"loss_d": loss_d, "loss_g": loss_g.item(), "drawn": drawn}))
dist.destroy_process_group()
