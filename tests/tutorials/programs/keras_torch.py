"""Keras 3 on torch: a Keras model and its layers, torch's own data parallel training."""

import json
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel as DDP


def get_model():
    inputs = keras.Input(shape=(28, 28, 1))
    x = keras.layers.Rescaling(1.0 / 255.0)(inputs)
    x = keras.layers.Conv2D(filters=8, kernel_size=5, strides=2, activation="relu")(x)
    x = keras.layers.MaxPooling2D(pool_size=2)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(10)(x)
    return keras.Model(inputs, outputs)


def get_dataset():
    with np.load("mnist.npz") as data:
        images = data["images"].reshape(-1, 28, 28, 1)
        return torch.utils.data.TensorDataset(
            torch.from_numpy(images), torch.from_numpy(data["labels"])
        )


def train_model(model, loader, sampler, num_epochs, optimizer, loss_fn):
    for epoch in range(num_epochs):
        sampler.set_epoch(epoch)
        running_loss = 0.0
        for batch_idx, (inputs, targets) in enumerate(loader):
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = loss_fn(outputs, targets)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        if torch.distributed.get_rank() == 0:
            print(f"Epoch {epoch + 1}/{num_epochs}, Loss: {running_loss / (batch_idx + 1):.4f}")
    return running_loss / (batch_idx + 1)


torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
keras.utils.set_random_seed(5 + rank)
dataset = get_dataset()
model = get_model()
sampler = torch.utils.data.distributed.DistributedSampler(dataset, shuffle=True)
loader = torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=64)
ddp_model = DDP(model)
loss = train_model(
    ddp_model, loader, sampler, num_epochs=1,
    optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    loss_fn=torch.nn.CrossEntropyLoss(),
)
images, labels = dataset.tensors
predicted = model.predict(images[::5].numpy(), verbose=0).argmax(1)
if rank == 0:
    accuracy = float((predicted == labels[::5].numpy()).mean())
    print(json.dumps({"loss": loss, "accuracy": accuracy}))
torch.distributed.destroy_process_group()
