"""GradScaler: the loss before it was scaled, and steps that it left out.

The scaled tensor carries the unscaled one as an attribute, so the value that is recorded is the
very number that the person would log, and it goes when the tensor goes.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.training.curves.patches import Patches

_UNSCALED = "_aios_unscaled"


class Scaling:
    """What is known of the gradient scalers of a rank."""

    def __init__(self) -> None:
        self._scalers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._scale: Any = None
        self.is_used = False
        self._loose = 0
        """Scaled tensors of this step that have not been differentiated themselves."""

    def install(self, patches: Patches, skip_step: Callable[[Callable[[], Any]], Any]) -> None:
        """Watch `torch.amp.GradScaler`.

        Args:
            patches: remembers the originals.
            skip_step: runs a step of a scaler and notices whether the optimizer made one.

        """
        scaler = torch.amp.GradScaler
        original_init, original_scale, original_step = scaler.__init__, scaler.scale, scaler.step

        @functools.wraps(original_init)
        def init(scaler: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            original_init(scaler, *args, **kwargs)
            if scaler.is_enabled():
                self._scalers.add(scaler)
                self.is_used = True

        @functools.wraps(original_scale)
        def scale(scaler: Any, outputs: Any) -> Any:  # noqa: ANN401
            result = original_scale(scaler, outputs)
            if not torch.compiler.is_compiling() and result is not outputs:
                self._remember(result, outputs)
            return result

        @functools.wraps(original_step)
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if torch.compiler.is_compiling():
                return original_step(scaler, optimizer, *args, **kwargs)
            return skip_step(lambda: original_step(scaler, optimizer, *args, **kwargs))

        self._scale = scale
        for name, function in (("__init__", init), ("scale", scale), ("step", step)):
            patches.replace(scaler, name, function)

    def _remember(self, result: Any, outputs: Any) -> None:  # noqa: ANN401
        if isinstance(result, torch.Tensor):
            setattr(result, _UNSCALED, outputs)
            self._loose += 1
        elif isinstance(result, (list, tuple)) and isinstance(outputs, (list, tuple)):
            for one, before in zip(result, outputs, strict=True):
                self._remember(one, before)

    def unscaled(self, root: torch.Tensor) -> torch.Tensor | None:
        """Return the loss that `root` is the scaled form of, or itself; None where unclear."""
        before: torch.Tensor | None = getattr(root, _UNSCALED, None)
        if before is not None:
            self._loose -= 1
            return before
        # A sum of scaled losses, one that was scaled in compiled code, a scaler of another kind.
        is_other = any(type(scaler).scale is not self._scale for scaler in self._scalers)
        is_compiled = type(root.grad_fn).__name__.startswith("Compiled")
        return None if self._loose > 0 or is_other or is_compiled else root

    def step_is_over(self) -> None:
        """Forget the scaled tensors of this step."""
        self._loose = 0
