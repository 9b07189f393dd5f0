"""How many samples the steps took, and a fingerprint of the first batches.

The sizes come from DataLoader's iterators in this process: a batch counts when `backward` follows,
so evaluation does not. A loop without one has the size inferred from what its model was called
with, looked at only now and then: a hook on all modules takes itself away at its first call.
"""

from __future__ import annotations

import functools
import weakref
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.data import dataloader

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.training.curves.patches import Patches

FINGERPRINTS = 3
"""Batches that ranks are compared by."""

_FINGERPRINT_BYTES = 2**16


class Batches:
    """The batches that this rank's steps took."""

    def __init__(self, *, wants_fingerprints: bool) -> None:
        self.samples = 0
        """In all batches so far that `backward` followed."""
        self.inferred_size: int | None = None
        """Of a batch that a model was called with, where no DataLoader gave any."""
        self.fingerprints: list[str] = []
        self._wants_fingerprints = wants_fingerprints
        self.waiting: dict[weakref.ref[Any], tuple[int, str]] = {}
        """What was given out and not trained on yet."""
        self._counted = (0, 0, 0.0)
        self._has_loader = False
        self._hook: Any = None
        self._may_hook = True

    def install(self, patches: Patches, tick: Callable[[], None]) -> None:
        """Watch DataLoader's iterators; `tick` is called for each batch."""
        original = dataloader._BaseDataLoaderIter.__next__  # noqa: SLF001 - all iterators have it

        @functools.wraps(original)
        def next_batch(iterator: Any) -> Any:  # noqa: ANN401
            try:
                batch = original(iterator)
            except StopIteration:
                # What evaluation took last was not trained on.
                self.waiting.pop(weakref.ref(iterator), None)
                raise
            if not torch.compiler.is_compiling():
                self._see(iterator, batch)
                tick()
            return batch

        patches.replace(dataloader._BaseDataLoaderIter, "__next__", next_batch)  # noqa: SLF001

    def _see(self, iterator: Any, batch: Any) -> None:  # noqa: ANN401
        # Without collation an item is whatever the dataset gives, maybe one sample.
        size = _size(batch) if iterator._auto_collation else None  # noqa: SLF001
        if size is None or not torch.is_grad_enabled():
            return
        self._has_loader = True
        wants_more = self._wants_fingerprints and len(self.fingerprints) < FINGERPRINTS
        # One batch an iterator: of two in a row, the first was left out by the person's code.
        self.waiting[weakref.ref(iterator)] = (size, fingerprint(batch) if wants_more else "")

    def take(self) -> None:
        """Count what was given out: `backward` is called."""
        for iterator, (size, mark) in self.waiting.items():
            if iterator() is not None:
                self.samples += size
                if mark and len(self.fingerprints) < FINGERPRINTS:
                    self.fingerprints.append(mark)
        self.waiting.clear()

    def rate(self, now: float, step: int, per_step: int) -> tuple[float, str]:
        """Return samples a second since the last call, or 0, and how they were counted.

        Args:
            now: on a monotonic clock.
            step: optimizer steps so far.
            per_step: batches in each of them.

        """
        samples, last_step, at = self._counted
        self._counted = (self.samples, step, now)
        count, how = self.samples - samples, "samples of DataLoader's batches"
        if self.inferred_size is not None and not self.samples:
            count = (step - last_step) * per_step * self.inferred_size
            how = f"inferred: the model was called with {self.inferred_size}"
            how += f" × {per_step} a step" if per_step > 1 else " a step"
        return (count / (now - at), how) if at and now > at else (0.0, how)

    def look_at_input(self) -> None:
        """Look at the input of the next call of a model, where nothing better is known."""
        is_wanted = self._may_hook and not self._has_loader and torch.is_grad_enabled()
        if is_wanted and self._hook is None:
            self._hook = register_module_forward_pre_hook(self._see_input)

    def _see_input(self, _module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._unhook()
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not inputs:
            return
        size = _size(inputs[0]) if isinstance(inputs[0], torch.Tensor) else None
        if size is None:
            return
        self.inferred_size = size
        if self._wants_fingerprints and not self.fingerprints:
            mark = fingerprint(inputs)
            self.fingerprints += [mark] if mark else []

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def never_hook(self) -> None:
        """Keep away from modules: to torch.compile, a hook that comes and goes is a recompile."""
        self._may_hook = False
        self._unhook()


def _size(batch: Any) -> int | None:  # noqa: ANN401
    """Return the first dimension of the first thing in a batch that has one."""
    if isinstance(batch, torch.Tensor) or hasattr(batch, "shape"):
        shape = batch.shape
        return int(shape[0]) if len(shape) else None
    if isinstance(batch, Mapping):
        return _size(next(iter(batch.values()), None))
    if isinstance(batch, (list, tuple)) and batch:
        first = batch[0]
        if isinstance(first, (str, bytes, int, float)):
            return len(batch)
        return _size(first)
    return None


def fingerprint(batch: Any) -> str:  # noqa: ANN401
    """Return a short text that is equal for equal batches, or an empty one.

    Of the first tensor, and only on the CPU: reading from a GPU would wait for it. Values that are
    all the same tell nothing.
    """
    while not isinstance(batch, torch.Tensor):
        if isinstance(batch, Mapping):
            batch = next(iter(batch.values()), None)
        elif isinstance(batch, (list, tuple)) and batch:
            batch = batch[0]
        else:
            return ""
    if not batch.is_cpu or not batch.numel() or batch.layout is not torch.strided:
        return ""
    count = max(_FINGERPRINT_BYTES // batch.element_size(), 1)
    with torch.no_grad():
        values = batch.detach().reshape(-1)[:count].contiguous()
        if bool((values == values[0]).all()):
            return ""
        data = values.view(torch.uint8).numpy().tobytes()
    return f"{zlib.crc32(data):08x}-{'x'.join(map(str, batch.shape))}"
