"""MNIST with DistributedDataParallel, as a script that takes arguments."""

import argparse
import json

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(800, 10),
        )

    def forward(self, images):
        return self.layers(images)


def load(path):
    with np.load(path) as data:
        images = torch.tensor(data["images"]).reshape(-1, 1, 28, 28) / 255
        labels = torch.tensor(data["labels"])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return TensorDataset(images[:4000], labels[:4000]), (images[4000:], labels[4000:])


def train(model, loader, sampler, optimizer, epochs):
    model.train()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch}  loss {loss.item():.4f}")
    return loss.item()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist.npz")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    dist.init_process_group(backend="gloo")
    torch.manual_seed(args.seed + dist.get_rank())
    dataset, (images, labels) = load(args.data)
    sampler = DistributedSampler(dataset, seed=args.seed)
    loader = DataLoader(dataset, batch_size=args.batch_size, sampler=sampler)
    model = DDP(Net(dropout=0.2))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    loss = train(model, loader, sampler, optimizer, args.epochs)

    model.eval()
    with torch.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean().item()
    if dist.get_rank() == 0:
        print(json.dumps({"loss": loss, "accuracy": accuracy}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
