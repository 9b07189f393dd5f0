"""Tensors in pickles: only what is used of a storage travels, and what shares it still shares it.

Left to itself, torch writes a whole storage for each of its views, and every view gets one of its
own on the other side. Nothing here imports torch before a tensor is met.
"""

from __future__ import annotations

import sys
from typing import Any

_ALIGNMENT = 16
"""Pieces begin at multiples of the largest item (complex128), so that all offsets stay whole."""


class _Piece:
    """A run of bytes of a storage, written once in a pickle however many views it has."""

    def __init__(self, storage: Any, start: int, end: int) -> None:  # noqa: ANN401 - torch's
        self._storage, self._start, self._end = storage, start, end

    def __reduce__(self) -> tuple[Any, ...]:
        torch = sys.modules["torch"]
        data = torch.empty(0, dtype=torch.uint8)
        data.set_(self._storage, self._start, (self._end - self._start,))
        return storage_of, (data.numpy(),)


def storage_of(data: Any) -> Any:  # noqa: ANN401 - numpy's and torch's
    """Return a storage with these bytes. Pickles call it."""
    import torch

    return torch.from_numpy(data).untyped_storage()


def view_of(storage: Any, dtype: Any, *view: Any) -> Any:  # noqa: ANN401 - torch's own
    """Return a tensor on a storage. Pickles call it."""
    import torch

    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]
    return torch._utils._rebuild_tensor_v2(typed, *view)  # type: ignore[no-untyped-call] # noqa: SLF001 - what torch's own pickles call


class Storages:
    """Which bytes of which storages travel; all tensors have to be met before the last pickle."""

    def __init__(self) -> None:
        self._storages: dict[int, Any] = {}
        self._extents: dict[int, set[tuple[int, int]]] = {}
        self._pieces: dict[tuple[int, int, int], _Piece] = {}

    def reduce(self, obj: object) -> tuple[Any, ...] | None:
        """Return how a plain tensor is pickled, None for all else."""
        torch = sys.modules.get("torch")
        if torch is None or type(obj) is not getattr(torch, "Tensor", None):
            return None
        tensor: Any = obj
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or vars(tensor):
            return None
        rebuild, (_, offset, *view) = tensor.__reduce_ex__(2)
        if rebuild is not torch._utils._rebuild_tensor_v2:  # noqa: SLF001 - quantized, fake, …
            return None
        piece, start = self._piece(tensor)
        return view_of, (piece, tensor.dtype, offset - start // tensor.element_size(), *view)

    def _piece(self, tensor: Any) -> tuple[_Piece, int]:  # noqa: ANN401 - torch's
        """Return the bytes that the tensor shares with all others met so far, and their start."""
        storage = tensor.untyped_storage()
        address, item = storage.data_ptr(), tensor.element_size()
        self._storages[address] = storage  # kept: another would get the address
        start = tensor.storage_offset() * item
        last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        end = start + (last + 1) * item if tensor.numel() else start
        start -= start % _ALIGNMENT
        extents = self._extents.setdefault(address, set())
        joined = [one for one in extents if one[0] < end and start < one[1]]
        start, end = min([start, *(a for a, _ in joined)]), max([end, *(b for _, b in joined)])
        extents.difference_update(joined)
        extents.add((start, end))
        key = address, start, end
        return self._pieces.setdefault(key, _Piece(storage, start, end)), start


def lost_hooks(obj: object) -> str:
    """Return what torch leaves out when it pickles a tensor or an optimizer, or nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "optim"):
        return ""
    if isinstance(obj, torch.Tensor):
        names, what = (
            ("_backward_hooks", "_post_accumulate_grad_hooks"),
            "gradient hooks of tensors",
        )
    elif isinstance(obj, torch.optim.Optimizer):
        names = tuple(name for name in vars(obj) if name.endswith("_hooks"))
        what = "hooks of optimizers"
    else:
        return ""
    return what if any(getattr(obj, name, None) for name in names) else ""
