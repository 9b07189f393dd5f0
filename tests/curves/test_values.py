"""Numbers that come later, and points that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from jupyter_aios.core.events import event_stream
from jupyter_aios.training.curves.series import Later, Mean, Recorder
from jupyter_aios.training.curves.values import DeviceNumbers
from jupyter_aios.training.journal import Journal, JournalReader

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path


class Arrival:
    """A transfer that arrives when the test says so."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors
        self.is_there = False
        self.was_awaited = False

    def has_arrived(self) -> bool:
        return self.is_there

    def wait(self) -> None:
        self.was_awaited = self.is_there = True

    def numbers(self) -> list[float]:
        assert self.is_there, "read before it arrived"
        return [float(tensor) for tensor in self.tensors]


class FakeLane:
    """A device whose queue is told by the tensor's dtype."""

    def __init__(self) -> None:
        self.sent: list[Arrival] = []

    def place(self, tensor: torch.Tensor) -> Hashable:
        return tensor.dtype

    def send(self, place: Any, tensors: list[torch.Tensor]) -> Arrival:
        assert place is not None
        self.sent.append(Arrival(tensors))
        return self.sent[-1]


def test_numbers_arrive_in_order_and_nothing_waits_before_the_end() -> None:
    lane = FakeLane()
    device = DeviceNumbers(lane)
    first = device.read(torch.tensor(1.5))
    device.move()
    second = device.read(torch.tensor(2.5))
    device.move()
    lane.sent[1].is_there = True
    device.move()
    assert (first.number, second.number) == (None, None)
    lane.sent[0].is_there = True
    device.move()
    assert (first.number, second.number) == (1.5, 2.5)
    third = device.read(torch.tensor(3.5))
    device.move(is_last=True)
    assert third.number == 3.5
    assert [arrival.was_awaited for arrival in lane.sent] == [False, False, True]


def test_a_number_is_what_it_was_when_it_was_read() -> None:
    lane = FakeLane()
    device = DeviceNumbers(lane)
    loss = torch.tensor(1.0)
    later = device.read(loss)
    loss.mul_(100)
    device.move(is_last=True)
    assert later.number == 1.0


def test_each_queue_is_sent_by_itself() -> None:
    lane = FakeLane()
    device = DeviceNumbers(lane)
    device.read(torch.tensor(1.0))
    device.read(torch.tensor(1.0, dtype=torch.float64))
    device.move()
    assert len(lane.sent) == 2


def test_points_are_written_up_to_the_first_that_is_on_its_way(tmp_path: Path) -> None:
    path = tmp_path / event_stream(0)
    recorder = Recorder(Journal(path))
    series, later = recorder.series("loss", "somehow"), Later()
    series.add(1, 1.0)
    series.add(2, Mean([later, 2.0], 2.0))
    series.add(3, float("nan"))
    recorder.write()
    later.number = 4.0
    recorder.write()
    recorder.write()
    written = [frame.json()["series"] for frame in JournalReader(path).read()]
    assert [record[0]["steps"] for record in written] == [[1], [2, 3]]
    assert [record[0]["values"] for record in written] == [[1.0], [6.0, "nan"]]
