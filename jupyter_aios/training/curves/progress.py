"""How far a loop has got: steps that no hook tells of, and how many there will be."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from jupyter_aios.training.curves.sites import Site
    from jupyter_aios.training.journal import Journal

_WATCHED = 4


class ParameterWatch:
    """Notices that parameters have changed: each change in place moves a tensor's version on."""

    def __init__(self) -> None:
        self._versions: list[tuple[weakref.ref[torch.Tensor], int]] = []

    def look(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Remember some parameters of the optimizers as they are now."""
        self._versions = [
            (weakref.ref(parameter), parameter._version)  # noqa: SLF001 - has no public name
            for optimizer in optimizers
            for parameter in optimizer.param_groups[0]["params"][:_WATCHED]
            if parameter.requires_grad
        ]

    def have_changed(self) -> bool:
        """Return whether one of them has changed since."""
        return any(
            parameter is not None and parameter._version != version  # noqa: SLF001
            for reference, version in self._versions
            for parameter in [reference()]
        )


def have_gradients(optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Return whether a parameter of the optimizers has a gradient."""
    return any(
        parameter.grad is not None
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    )


class Progress:
    """How many steps there will be, as far as the loops tell."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: set[tuple[tuple[str, int], ...]] = set()
        """Loops that have been looked at."""
        self._total: int | None = None

    def infer(self, site: Site, step: int) -> None:
        """Tell the total when the loops are new, or have gone on for longer than they should."""
        is_over = self._total is not None and 0 < self._total < step
        is_new = site.rounds.loops not in self._known
        if not is_new and not is_over:
            return
        self._known.add(site.rounds.loops)
        steps, how = site.rounds.steps(site.micro_batches), site.rounds.how
        if steps and site.micro_batches > 1:
            how += f", {site.micro_batches} micro-batches a step"
        base = site.base_step if is_new else self._total or 0
        total = base + steps if steps else 0
        # Of two losses in nested loops (a GAN's) the longer way is the loop's.
        if self._total is None or is_over or total > self._total:
            self.tell(total, how)

    def tell(self, total: int, how: str) -> None:
        """Tell how many steps there will be, and from what that was inferred."""
        self._total = total
        self._journal.record(EventKind.PROGRESS, total=total, how=how)

    def holds_until(self, step: int) -> int:
        """Return the last step for which nothing new has to be inferred."""
        return self._total if self._total and step <= self._total else sys.maxsize
