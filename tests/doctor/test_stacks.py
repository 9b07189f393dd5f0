"""What faulthandler writes, read back; and what a main thread that waits is waiting for."""

from __future__ import annotations

import faulthandler
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training.doctor import stacks
from jupyter_aios.training.doctor.stacks import Frame, Spot
from jupyter_aios.training.doctor.vitals import Line

if TYPE_CHECKING:
    from pathlib import Path

TORCH = "/venv/site-packages/torch"
LIBRARY = "/usr/lib/python3.11"


def dump_here() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def test_a_real_dump_is_read_with_its_threads() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        dump = stacks.parse(dump_here())
    finally:
        done.set()
        thread.join()
    assert dump is not None
    assert dump.main[0].function == "dump_here"
    assert dump.main[1].function == "test_a_real_dump_is_read_with_its_threads"
    assert any(frame.function == "wait" for stack in dump.others for frame in stack)


def test_half_a_dump_is_none() -> None:
    text = dump_here()
    assert stacks.parse("") is None
    assert stacks.parse(text[:-5]) is None
    assert stacks.parse(text[: text.index("Current")]) is None


def test_names_that_are_not_ascii_come_back(tmp_path: Path) -> None:
    path = tmp_path / "schön 漢字.py"
    code = compile("import __main__\nresult = dump()", str(path), "exec")
    names = {"dump": dump_here}
    exec(code, names)  # noqa: S102 - a frame of that name is wanted
    dump = stacks.parse(str(names["result"]))
    assert dump is not None
    assert (dump.main[1].file, dump.main[1].line) == (str(path), 2)


@pytest.mark.parametrize(
    ("frames", "spot"),
    [
        ([(f"{TORCH}/autograd/graph.py", "_engine_run_backward")], Spot.EXCHANGE),
        ([(f"{TORCH}/nn/parallel/distributed.py", "_sync_buffers")], Spot.EXCHANGE),
        ([(f"{TORCH}/distributed/utils.py", "_verify")], Spot.EXCHANGE),
        (
            [
                (f"{LIBRARY}/selectors.py", "select"),
                (f"{TORCH}/utils/data/dataloader.py", "_try_get_data"),
            ],
            Spot.LOADER,
        ),
        (
            [
                (f"{LIBRARY}/multiprocessing/queues.py", "get"),
                (f"{TORCH}/utils/data/_utils/worker.py", "_worker_loop"),
            ],
            Spot.IDLE_WORKER,
        ),
        (
            [
                ("cell.py", "__getitem__"),
                (f"{TORCH}/utils/data/_utils/fetch.py", "fetch"),
                (f"{TORCH}/utils/data/_utils/worker.py", "_worker_loop"),
            ],
            Spot.LOCK,
        ),
        ([(f"{LIBRARY}/threading.py", "wait")], Spot.LOCK),
    ],
)
def test_what_is_waited_for(frames: list[tuple[str, str]], spot: Spot) -> None:
    stack = (*(Frame(file, 1, function) for file, function in frames), Frame("cell.py", 9, "f"))
    assert stacks.spot(stack) is spot


def test_the_persons_line_is_the_innermost_of_theirs() -> None:
    stack = (Frame(f"{LIBRARY}/queue.py", 5, "get"), Frame("a.py", 7, "f"), Frame("a.py", 9, "g"))
    assert stacks.person_line(stack, lambda file: file == "a.py") == Line("a.py", 7)
    assert stacks.doing(stack, lambda file: file == "a.py") == "get"
    assert stacks.person_line(stack, lambda _: False) == Line(f"{LIBRARY}/queue.py", 5)


def test_a_progress_bars_thread_is_known_to_be_a_watcher() -> None:
    monitor = (Frame(f"{LIBRARY}/threading.py", 1, "wait"), Frame("/x/tqdm/_monitor.py", 2, "run"))
    other = (Frame(f"{LIBRARY}/threading.py", 1, "wait"), Frame("cell.py", 2, "run"))
    assert stacks.Dump((Frame("a.py", 1, "f"),), (monitor, other)).monitors == 1
