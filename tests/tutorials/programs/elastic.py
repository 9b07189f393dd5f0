"""A trainer that saves a snapshot after each epoch and goes on from it when it is started again."""

import json
import os
import signal

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def ddp_setup():
    init_process_group(backend="gloo")


class Trainer:
    def __init__(self, model, train_data, optimizer, save_every, snapshot_path):
        self.global_rank = int(os.environ["RANK"])
        self.model = model
        self.train_data = train_data
        self.optimizer = optimizer
        self.save_every = save_every
        self.epochs_run = 0
        self.snapshot_path = snapshot_path
        if os.path.exists(snapshot_path):
            print("Loading snapshot")
            self._load_snapshot(snapshot_path)
        self.model = DDP(self.model)

    def _load_snapshot(self, snapshot_path):
        snapshot = torch.load(snapshot_path)
        self.model.load_state_dict(snapshot["MODEL_STATE"])
        self.epochs_run = snapshot["EPOCHS_RUN"]
        print(f"Resuming training from snapshot at Epoch {self.epochs_run}")

    def _save_snapshot(self, epoch):
        snapshot = {"MODEL_STATE": self.model.module.state_dict(), "EPOCHS_RUN": epoch + 1}
        torch.save(snapshot, self.snapshot_path)
        print(f"Epoch {epoch} | Training snapshot saved at {self.snapshot_path}")

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(source), targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _run_epoch(self, epoch):
        self.train_data.sampler.set_epoch(epoch)
        for batch, (source, targets) in enumerate(self.train_data):
            loss = self._run_batch(source, targets)
            if (epoch, batch, self.global_rank) == (2, 3, 1) and os.path.exists("a-node-fails"):
                os.remove("a-node-fails")
                os.kill(os.getpid(), signal.SIGKILL)
        return loss

    def train(self, max_epochs):
        for epoch in range(self.epochs_run, max_epochs):
            loss = self._run_epoch(epoch)
            if self.global_rank == 0 and epoch % self.save_every == 0:
                self._save_snapshot(epoch)
        return loss


def load_train_objs():
    with np.load("mnist.npz") as data:
        images, labels = data["images"][::3] / 255, data["labels"][::3]
    train_set = TensorDataset(torch.tensor(images), torch.tensor(labels))
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    return train_set, model, optimizer


def prepare_dataloader(dataset, batch_size):
    sampler = DistributedSampler(dataset)
    return DataLoader(dataset, batch_size=batch_size, shuffle=False, sampler=sampler)


def main(save_every=1, total_epochs=5, batch_size=32, snapshot_path="snapshot.pt"):
    ddp_setup()
    torch.manual_seed(3)
    dataset, model, optimizer = load_train_objs()
    train_data = prepare_dataloader(dataset, batch_size)
    trainer = Trainer(model, train_data, optimizer, save_every, snapshot_path)
    loss = trainer.train(total_epochs)
    images, labels = dataset.tensors
    with torch.no_grad():
        accuracy = (trainer.model(images).argmax(1) == labels).float().mean().item()
    if get_rank() == 0:
        print(json.dumps({"loss": loss, "accuracy": accuracy}))
    destroy_process_group()


if __name__ == "__main__":
    main()
