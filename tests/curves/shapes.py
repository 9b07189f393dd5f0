"""Training loops of all shapes; each also logs by hand what its curve should be.

A shape's key is its row in docs/curves.md. The hand-logged metrics have the names of the curves
that they are compared with, point for point.
"""

from __future__ import annotations

HEAD = """\
import torch, jupyter_aios as aios
from torch import nn
torch.manual_seed(0)
inputs = torch.randn(40, 6)
targets = inputs.sum(1, keepdim=True)
def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
model = net()
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(inputs, targets), batch_size=4, shuffle=True
)
"""

PLAIN = (
    HEAD
    + """\
for epoch in range(2):
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        aios.log(loss=loss)
"""
)

DDP = (
    HEAD.replace(
        "torch.manual_seed(0)\n",
        "import torch.distributed as dist\n"
        'dist.init_process_group("gloo")\n'
        "torch.manual_seed(dist.get_rank())\n",
    )
    + """\
model = nn.parallel.DistributedDataParallel(model)
for epoch in range(2):
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        aios.log(loss=loss)
"""
)

AMP = (
    HEAD
    + """\
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for epoch in range(2):
    for number, (x, y) in enumerate(loader):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = criterion(model(x).float(), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if number == 3:
            model[0].weight.grad[0, 0] = float("inf")  # this step is left out
        scaler.step(optimizer)
        scaler.update()
        aios.log(loss=loss)
"""
)

# 10 batches in groups of 4, 4 and 2: the last is incomplete, and divided by 4 all the same.
ACCUMULATION_HEAD = (
    HEAD
    + """\
losses = []
for epoch in range(2):
    for number, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        losses.append(loss.item())
"""
)
ACCUMULATION_TAIL = """\
        if (number + 1) % 4 == 0 or number + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
            aios.log(loss=sum(losses) / len(losses))
            losses.clear()
"""
ACCUMULATION_DIVIDED = (
    ACCUMULATION_HEAD
    + """\
        loss = loss / 4
        loss.backward()
"""
    + ACCUMULATION_TAIL
)
ACCUMULATION_UNDIVIDED = (
    ACCUMULATION_HEAD
    + """\
        loss.backward()
"""
    + ACCUMULATION_TAIL
)
ACCUMULATION_SCALED = (
    ACCUMULATION_HEAD.replace("losses = []", 'losses = []\nscaler = torch.amp.GradScaler("cpu")')
    + """\
        scaler.scale(loss * 0.25).backward()
"""
    + ACCUMULATION_TAIL.replace("optimizer.step()", "scaler.step(optimizer); scaler.update()")
)

LBFGS = (
    HEAD
    + """\
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
def closure():
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets)
    loss.backward()
    return loss
for step in range(6):
    loss = optimizer.step(closure)
    aios.log(loss=loss)
"""
)

GAN = (
    HEAD
    + """\
generator, judge = nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
criterion = nn.BCELoss()
opt_g = torch.optim.Adam(generator.parameters(), lr=0.01)
opt_d = torch.optim.Adam(judge.parameters(), lr=0.02)
for epoch in range(2):
    for x, _ in loader:
        ones, zeros = torch.ones(len(x), 1), torch.zeros(len(x), 1)
        opt_d.zero_grad()
        errD_real = criterion(judge(x), ones)
        errD_real.backward()
        fake = generator(torch.randn(len(x), 3))
        errD_fake = criterion(judge(fake.detach()), zeros)
        errD_fake.backward()
        opt_d.step()
        opt_g.zero_grad()
        errG = criterion(judge(fake), ones)
        errG.backward()
        opt_g.step()
        aios.log(errD_real=errD_real, errD_fake=errD_fake, errG=errG)
"""
)

TWO_ROOTS = (
    HEAD
    + """\
for x, y in loader:
    optimizer.zero_grad()
    fit, size = criterion(model(x), y), sum(p.square().sum() for p in model.parameters())
    torch.autograd.backward([fit, size])
    optimizer.step()
    aios.log(fit=fit, size=size)
"""
)

COMPILED_MODEL = PLAIN.replace("model = net()", 'model = torch.compile(net(), backend="aot_eager")')

COMPILED_STEP = (
    HEAD
    + """\
@torch.compile(backend="aot_eager")
def step(x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
for epoch in range(2):
    for x, y in loader:
        loss = step(x, y)
        aios.log(loss=loss)
"""
)

NO_OPTIMIZER = (
    HEAD.replace("optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n", "")
    + """\
for epoch in range(2):
    for x, y in loader:
        loss = criterion(model(x), y)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.01 * p.grad
                p.grad = None
        aios.log(loss=loss)
"""
)

KERAS = """\
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras, torch, jupyter_aios as aios
keras.utils.set_random_seed(0)
x = torch.randn(64, 6)
y = x.sum(1, keepdim=True)
class Log(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        aios.log(step=self.steps, loss=logs["loss"], mae=logs["mae"])
    def on_epoch_end(self, epoch, logs=None):
        aios.log(step=self.steps, val_loss=logs["val_loss"], val_mae=logs["val_mae"])
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse", metrics=["mae"])
fitted = model.fit(x[:48], y[:48], validation_data=(x[48:], y[48:]), batch_size=8, epochs=2,
                   verbose=0, callbacks=[Log()])
print("HISTORY", fitted.history["loss"])
"""

SCIKIT_LEARN = """\
import numpy as np
from sklearn.linear_model import SGDClassifier
x = np.random.default_rng(0).normal(size=(60, 4))
classifier = SGDClassifier()
for epoch in range(3):
    classifier.partial_fit(x, x[:, 0] > 0, classes=[False, True])
"""

GRADIENT_GIVEN = (
    HEAD
    + """\
for x, y in loader:
    optimizer.zero_grad()
    errors = model(x) - y
    errors.backward(errors.detach())
    optimizer.step()
"""
)

AUTOGRAD_GRAD = (
    HEAD
    + """\
for x, y in loader:
    loss = criterion(model(x), y)
    for p, grad in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
        p.grad = grad
    optimizer.step()
"""
)

SCALED_SUM = (
    HEAD
    + """\
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for x, y in loader:
    out = model(x)
    optimizer.zero_grad()
    (scaler.scale(criterion(out, y)) + scaler.scale(out.square().mean())).backward()
    scaler.step(optimizer)
    scaler.update()
"""
)

BY_HAND = PLAIN.replace("aios.log(loss=loss)", "aios.log(loss=loss, size=model[0].weight.norm())")

SHAPES = {
    "plain": PLAIN,
    "DDP": DDP,
    "autocast with GradScaler": AMP,
    "accumulation, divided": ACCUMULATION_DIVIDED,
    "accumulation, undivided": ACCUMULATION_UNDIVIDED,
    "accumulation, divided and scaled": ACCUMULATION_SCALED,
    "LBFGS closure": LBFGS,
    "two losses, two optimizers (a GAN)": GAN,
    "torch.autograd.backward([a, b])": TWO_ROOTS,
    "compiled model": COMPILED_MODEL,
    "compiled whole step": COMPILED_STEP,
    "no optimizer": NO_OPTIMIZER,
    "Keras 3 `fit`": KERAS,
    "scikit-learn": SCIKIT_LEARN,
    "backward(gradient)": GRADIENT_GIVEN,
    "torch.autograd.grad": AUTOGRAD_GRAD,
    "a sum of scaled losses": SCALED_SUM,
    "aios.log beside it": BY_HAND,
    "--no-autolog": PLAIN,
}
