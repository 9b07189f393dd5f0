"""The learning rates of optimizers, as curves that have a point where something changes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.curves.series import Later

if TYPE_CHECKING:
    import torch

    from jupyter_aios.training.curves.series import Recorder
    from jupyter_aios.training.curves.values import Numbers


@dataclass
class RateLine:
    """One learning rate: where its curve has got to."""

    name: str
    rate: float | Later | None = None
    step: int = -1
    """The last step that had this rate."""
    recorded: int = -1
    """The last step with a point."""


class _Slot:
    """One optimizer, or its successor when it is gone."""

    def __init__(self, number: int, optimizer: torch.optim.Optimizer) -> None:
        self.number = number
        self.optimizer = weakref.ref(optimizer)
        self.groups: dict[int, RateLine] = {}


class Rates:
    """The learning rates of all optimizers of a rank."""

    how = "param_groups of the optimizer, at its steps"

    def __init__(self, recorder: Recorder, numbers: Numbers) -> None:
        self._recorder = recorder
        self._numbers = numbers
        self._slots: list[_Slot] = []
        self._by_optimizer: dict[weakref.ref[torch.optim.Optimizer], _Slot] = {}

    def see(self, optimizer: torch.optim.Optimizer, step: int) -> tuple[float, RateLine | None]:
        """Take the rates that the step to `step` was made with.

        Returns the rate and the line of an optimizer that has only one, else no line: while the
        rate stays the very same, only the line's step has to be moved on.
        """
        slot = self._by_optimizer.get(weakref.ref(optimizer)) or self._slot(optimizer)
        groups = optimizer.param_groups
        first = groups[0].get("lr") if groups else None
        for index, group in enumerate(groups):
            rate = group.get("lr")
            known = slot.groups.get(index)
            if known is None:
                if rate is None or (index and _is_same(rate, first)):
                    continue  # groups that differ in something else have no curve of their own
                known = slot.groups[index] = RateLine(self._name(slot, index, optimizer))
            self._change(known, rate, step)
        if len(groups) == 1 and isinstance(first, float):
            return first, slot.groups[0]
        return 0.0, None

    def _change(self, group: RateLine, rate: Any, step: int) -> None:  # noqa: ANN401 - a number or a tensor
        if hasattr(rate, "is_cpu"):
            if not rate.is_cpu:
                # A rate on a GPU is read when points are written, not at every step.
                group.rate, group.step = rate, step
                return
            rate = rate.item()
        rate = float(rate)
        if isinstance(group.rate, float) and rate == group.rate:
            group.step = step
            return
        # The line stays level up to the change.
        if isinstance(group.rate, float) and group.step > group.recorded:
            self._recorder.series(group.name, self.how).add(group.step, group.rate)
        self._recorder.series(group.name, self.how).add(step, rate)
        group.rate, group.step, group.recorded = rate, step, step

    def extend(self) -> None:
        """Let the curves reach the last step that was seen."""
        for slot in self._slots:
            for group in slot.groups.values():
                if group.step > group.recorded and group.rate is not None:
                    rate = group.rate
                    value = rate if isinstance(rate, float) else self._numbers.read(rate)  # type: ignore[arg-type]
                    if value is not None:
                        self._recorder.series(group.name, self.how).add(group.step, value)
                        group.recorded = group.step

    def _slot(self, optimizer: torch.optim.Optimizer) -> _Slot:
        gone = next((slot for slot in self._slots if slot.optimizer() is None), None)
        if gone is None:
            slot = _Slot(len(self._slots) + 1, optimizer)
            self._slots.append(slot)
        else:
            # A sweep makes an optimizer for each of its runs: they share a curve.
            slot = gone
            self._by_optimizer.pop(slot.optimizer, None)
            slot.optimizer = weakref.ref(optimizer)
        self._by_optimizer[slot.optimizer] = slot
        return slot

    @staticmethod
    def _name(slot: _Slot, index: int, optimizer: torch.optim.Optimizer) -> str:
        parts = [f"{type(optimizer).__name__} {slot.number}"] if slot.number > 1 else []
        parts += [f"group {index + 1}"] if index else []
        return f"lr ({', '.join(parts)})" if parts else "lr"


def _is_same(rate: object, first: object) -> bool:
    """Compare two rates; tensors by identity, for their values may lie on a GPU."""
    is_plain = isinstance(rate, (int, float)) and isinstance(first, (int, float))
    return rate == first if is_plain else rate is first
