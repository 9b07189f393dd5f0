"""Reading numbers from tensors without making a GPU wait.

On the CPU a number is read at once. A number on a GPU is copied there, at the end of what the
stream has been given; many copies later go to the CPU together, and are looked at when an event
says that they have arrived. Nothing waits, except for the last batch at the end of the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from jupyter_aios.training.curves.series import Later

if TYPE_CHECKING:
    from collections.abc import Hashable

    import torch


class Transfer(Protocol):
    """A batch of numbers on its way to the CPU."""

    def has_arrived(self) -> bool:
        """Return whether `numbers` may be read. Does not wait."""

    def wait(self) -> None:
        """Wait until they may."""

    def numbers(self) -> list[float]:
        """Return them."""


class Lane(Protocol):
    """How numbers come from one kind of device."""

    def place(self, tensor: torch.Tensor) -> Hashable:
        """Return the queue that the tensor's value is computed in."""

    def send(self, place: Any, tensors: list[torch.Tensor]) -> Transfer:  # noqa: ANN401 - what `place` returned
        """Start a batch."""


class CudaLane:
    """Numbers from an NVIDIA GPU; `place` is a stream."""

    def place(self, tensor: torch.Tensor) -> Hashable:
        """Return the stream that is current on the tensor's GPU."""
        import torch

        return torch.cuda.current_stream(tensor.device)

    def send(self, place: Any, tensors: list[torch.Tensor]) -> Transfer:  # noqa: ANN401
        """Start a batch in the stream that its numbers were computed in."""
        import torch

        with torch.no_grad(), torch.cuda.stream(place):
            stacked = torch.stack(tensors)
            # Pinned, or the copy would wait for the GPU.
            host = torch.empty(len(tensors), dtype=stacked.dtype, pin_memory=True)
            host.copy_(stacked, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(place)
        return _CudaTransfer(stacked, host, event)


class _CudaTransfer:
    def __init__(self, stacked: torch.Tensor, host: torch.Tensor, event: Any) -> None:  # noqa: ANN401
        self._stacked = stacked  # must live until it has been copied
        self._host = host
        self._event = event

    def has_arrived(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        self._event.synchronize()

    def numbers(self) -> list[float]:
        numbers: list[float] = self._host.tolist()
        return numbers


class DeviceNumbers:
    """The numbers that have not arrived yet."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._fresh: dict[Hashable, tuple[list[Later], list[torch.Tensor]]] = {}
        self._travelling: list[tuple[list[Later], Transfer]] = []

    def read(self, tensor: torch.Tensor) -> Later:
        """Return a number that will be there later. Does not wait for the device."""
        import torch

        later = Later()
        place = self._lane.place(tensor)
        laters, tensors = self._fresh.setdefault(place, ([], []))
        laters.append(later)
        # A copy: the person's code, or a CUDA graph, may write over the tensor meanwhile.
        tensors.append(tensor.detach().reshape(()).to(torch.float64, copy=True))
        return later

    def move(self, *, is_last: bool = False) -> None:
        """Send what was read and fill in what has arrived; at the last call, all of it."""
        for place, (laters, tensors) in self._fresh.items():
            self._travelling.append((laters, self._lane.send(place, tensors)))
        self._fresh.clear()
        # In the order of sending, so that no curve gets a hole.
        while self._travelling:
            laters, transfer = self._travelling[0]
            if is_last:
                transfer.wait()
            elif not transfer.has_arrived():
                return
            for later, number in zip(laters, transfer.numbers(), strict=True):
                later.number = number
            del self._travelling[0]


class Numbers:
    """Reads a tensor of one element, wherever it lies."""

    def __init__(self, device: DeviceNumbers) -> None:
        self.device = device

    def read(self, tensor: torch.Tensor) -> float | Later | None:
        """Return the number, at once or later; None where it cannot be read without harm."""
        if tensor.is_cpu:
            return float(tensor.item())
        if not tensor.is_cuda:
            return None
        import torch

        # Whatever is done while a CUDA graph is captured becomes part of the graph.
        if torch.cuda.is_current_stream_capturing():
            return None
        return self.device.read(tensor)
