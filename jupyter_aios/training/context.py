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
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jupyter_aios.core.events import EventKind
from jupyter_aios.errors import InputError
from jupyter_aios.training import checkpoint as checkpoints
from jupyter_aios.training.doctor.rank import RankVitals
from jupyter_aios.training.journal import Journal

if TYPE_CHECKING:
    import torch

STEP_RECORD_S = 1.0
"""Between two records of the step counter at least: each of them wakes agent, controller and view,
which on a machine with all cores in use is time taken from the ranks."""


class CurveSource(Protocol):
    """What sees the loop of a rank; see `curves`."""

    def settle(self) -> None:
        """Count a step that nobody told of."""

    def flush(self, *, is_last: bool = False) -> None:
        """Write what there is; of code that is over, all of it."""

    def finish(self) -> None:
        """Write everything, at the end of the code."""


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
    has_logged: bool = False
    capture: CurveSource | None = None
    """What sees the loop, unless the job was submitted with --no-autolog."""
    may_be_traced: bool = True
    """False as long as it is known that nothing is compiled."""
    recorded_step: int = 0
    round: set[weakref.ref[Any]] = field(default_factory=set)
    """The optimizers that have stepped since the counter did."""
    vitals: RankVitals | None = None
    """Where the hang doctor sees the step; None where it cannot."""

    def notice(self, text: str) -> None:
        """Tell the person something, once."""
        if text not in self.told:
            self.told.add(text)
            self.journal.record(EventKind.NOTICE, text=text)

    def notice_once(self, text: str) -> None:
        """Tell the person, once, what holds for all ranks alike."""
        if self.rank == 0:
            self.notice(text)


_current: RankContext | None = None


def enter(context: RankContext) -> None:
    """Make this process the rank that `context` describes."""
    global _current  # noqa: PLW0603 - a process is one rank, and user code has no handle to pass
    _current = context
    # A child that the code forks (a DataLoader's worker) is no rank: the file has one writer.
    os.register_at_fork(after_in_child=_leave)


def _leave() -> None:
    global _current  # noqa: PLW0603 - see above
    _current = None


def count_step(optimizer: object, *_: object) -> None:
    """Count an optimizer step; registered as a hook on every optimizer.

    The step is how often the optimizers have come round: the two of a GAN make one step together,
    and of optimizers that step at different paces the most diligent counts.
    """
    context = _current
    if context is None:
        return
    if context.may_be_traced and sys.modules["torch"].compiler.is_compiling():
        return
    mark = weakref.ref(optimizer)
    if context.round and mark not in context.round:
        context.round.add(mark)
        return
    context.round.clear()
    context.round.add(mark)
    context.step += 1
    if context.vitals is not None:
        context.vitals.count_step(context.step, sys._getframe(1))  # noqa: SLF001
    if time.monotonic() - context.step_recorded_at >= STEP_RECORD_S:
        record_step(context)


def record_step(context: RankContext) -> None:
    """Record the step counter, if it has moved since."""
    context.step_recorded_at = time.monotonic()
    if context.step != context.recorded_step:
        context.recorded_step = context.step
        context.journal.record(EventKind.STEP, step=context.step)


def record_so_far() -> None:
    """Record the curves and the step counter between two cells of kept ranks: more may come."""
    if _current is None:
        return
    if _current.capture is not None:
        _current.capture.flush(is_last=True)
    record_step(_current)


def record_last_step() -> None:
    """Record the curves and the step counter as they are, whatever was left out for its cost."""
    if _current is None:
        return
    if _current.capture is not None:
        _current.capture.finish()
    if _current.step:
        record_step(_current)


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
        _current.has_logged = True
        if _current.capture is not None:
            _current.capture.settle()
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
