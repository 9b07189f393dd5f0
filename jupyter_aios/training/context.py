"""What `import jupyter_aios as aios` offers inside a rank; outside of one, harmless.

A script that uses these runs as well under plain `python` or `torchrun`: there `log` and
`checkpoint` do nothing, `restore` returns 0 and `device` answers for the process itself.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.events import EventKind
from jupyter_aios.errors import InputError
from jupyter_aios.training import checkpoint as checkpoints
from jupyter_aios.training.journal import Journal

if TYPE_CHECKING:
    import torch

STEP_RECORD_S = 1.0
"""Between two records of the step counter at least: each of them wakes agent, controller and view,
which on a machine with all cores in use is time taken from the ranks."""


@dataclass
class RankContext:
    """What a rank knows of itself."""

    rank: int
    world_size: int
    journal: Journal
    attempt_folder: Path
    resume: checkpoints.Checkpoint | None = None
    step: int = 0
    step_recorded_at: float = -math.inf
    has_restored: bool = False
    told: set[str] = field(default_factory=set)

    def notice(self, text: str) -> None:
        """Tell the person something, once."""
        if text not in self.told:
            self.told.add(text)
            self.journal.record(EventKind.NOTICE, text=text)


_current: RankContext | None = None


def enter(context: RankContext) -> None:
    """Make this process the rank that `context` describes."""
    global _current  # noqa: PLW0603 - a process is one rank, and user code has no handle to pass
    _current = context


def count_step(*_: object) -> None:
    """Count an optimizer step; registered as a hook on every optimizer."""
    context = _current
    if context is None:
        return
    context.step += 1
    now = time.monotonic()
    if now - context.step_recorded_at >= STEP_RECORD_S:
        context.step_recorded_at = now
        context.journal.record(EventKind.STEP, step=context.step)


def record_last_step() -> None:
    """Record the step counter as it is at the end, whatever was left out for its cost."""
    if _current is not None and _current.step:
        _current.journal.record(EventKind.STEP, step=_current.step)


def log(step: int | None = None, **metrics: Any) -> None:  # noqa: ANN401 - whatever float() takes
    """Record named numbers of this moment: `aios.log(loss=loss, accuracy=0.9)`.

    Args:
        step: where on the axis they belong; by default the number of optimizer steps so far.
        metrics: numbers, or tensors of one element (reading one from a GPU waits for it).

    Raises:
        InputError: a value is not a number.

    """
    numbers: dict[str, float | str] = {}
    for name, value in metrics.items():
        try:
            # detach: a loss that still carries its graph is the usual thing to log.
            number = float(value.detach() if hasattr(value, "detach") else value)
        except (TypeError, ValueError, RuntimeError):
            msg = f"aios.log({name}=…) takes a number, not {type(value).__name__}"
            raise InputError(msg, hint=f"log one number, e.g. {name}={name}.mean()") from None
        # JSON has no infinities; a diverged loss is exactly what a person wants to see.
        numbers[name] = number if math.isfinite(number) else str(number)
    if _current is not None:
        at_step = _current.step if step is None else int(step)
        _current.journal.record(EventKind.METRICS, step=at_step, metrics=numbers)


def device() -> torch.device:
    """Return the device of this rank: its own GPU where it has one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def checkpoint(step: int, **objects: Any) -> None:  # noqa: ANN401 - anything with a state
    """Save `objects` and the random number generators as the state after `step`.

    Every rank calls it with the same step; a restarted job goes on from the newest one that all
    ranks completed. Models and optimizers are replicated under a process group, so rank 0 writes
    them; sharded ones are written by each rank. The write is atomic.

    Args:
        step: the step that is contained; `restore` will return the next one.
        objects: what has `state_dict`/`load_state_dict` (models, optimizers, schedulers,
            scalers), a sampler with `epoch`, a `torch.Generator`, a dict or a list.

    Raises:
        InputError: an object has no state that could be loaded back into it.

    """
    states = {name: _state_of(name, value) for name, value in objects.items()}
    context = _current
    if context is None:
        return
    begun = time.monotonic()
    if context.rank != 0 and _is_replicated(states):
        states = {n: s for n, s in states.items() if s["kind"] != "replicated"}
    state = {"step": int(step), "objects": states, "rng": _rng_state()}
    folder = checkpoints.folder_of(context.attempt_folder, int(step))
    try:
        checkpoints.write(folder, context.rank, state)
    except OSError as error:
        # The older checkpoint still stands: losing this one is no reason to lose the run.
        reason = os.strerror(error.errno or 0)
        context.notice(f"the checkpoint of step {step} could not be written: {reason}")
        return
    context.journal.record(
        EventKind.CHECKPOINT, step=int(step), seconds=round(time.monotonic() - begun, 4)
    )


def restore(**objects: Any) -> int:  # noqa: ANN401 - anything with a state
    """Load the newest checkpoint into `objects` and return the step to go on with.

    Returns 0, with nothing loaded, where the job has no checkpoint. Random number generators are
    set as they were. The names are those that `checkpoint` was called with.

    Raises:
        InputError: the checkpoint does not hold an object of that name.

    """
    context = _current
    if context is None or context.resume is None:
        return 0
    own = checkpoints.read(context.resume.folder, context.rank)
    shared = own if context.rank == 0 else checkpoints.read(context.resume.folder, 0)
    states = shared["objects"] | own["objects"]
    for name, value in objects.items():
        if name not in states:
            known = ", ".join(sorted(states)) or "nothing"
            msg = f"the checkpoint of step {own['step']} holds no {name!r}"
            raise InputError(msg, hint=f"it holds {known}")
        _load_state(name, value, states[name]["state"])
    _set_rng_state(own["rng"])
    context.has_restored = True
    context.step = int(own["step"]) + 1
    return context.step


def _state_of(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    import torch

    if isinstance(value, (torch.nn.Module, torch.optim.Optimizer)):
        return {"kind": "replicated", "state": value.state_dict()}
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return {"kind": "own", "state": value.state_dict()}
    if isinstance(value, torch.Generator):
        return {"kind": "own", "state": value.get_state()}
    if hasattr(value, "set_epoch") and hasattr(value, "epoch"):
        return {"kind": "own", "state": value.epoch}
    if isinstance(value, (dict, list)):
        return {"kind": "own", "state": value}
    msg = f"aios.checkpoint({name}=…) cannot load a {type(value).__name__} back in place"
    raise InputError(msg, hint=f"put it into a dict: extra={{{name!r}: {name}}}")


def _load_state(name: str, value: Any, state: Any) -> None:  # noqa: ANN401
    import torch

    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
    elif isinstance(value, torch.Generator):
        value.set_state(state)
    elif hasattr(value, "set_epoch"):
        value.set_epoch(state)
    elif isinstance(value, dict):
        value.clear()
        value.update(state)
    elif isinstance(value, list):
        value[:] = state
    else:
        msg = f"aios.restore({name}=…) cannot load into a {type(value).__name__}"
        raise InputError(msg, hint=f"put it into a dict: extra={{{name!r}: {name}}}")


def _is_replicated(states: dict[str, Any]) -> bool:
    """True where rank 0's models stand for all: a process group, and no sharded tensors."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return False
    return not any(
        type(tensor).__name__ in ("DTensor", "ShardedTensor")
        for state in states.values()
        if isinstance(state["state"], dict)
        for tensor in state["state"].values()
    )


def _rng_state() -> dict[str, Any]:
    import torch

    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_rng_state(state: dict[str, Any]) -> None:
    import torch

    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state:
        import numpy as np

        np.random.set_state(state["numpy"])  # noqa: NPY002 - the global one is what users use
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
