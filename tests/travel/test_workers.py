"""Worker processes of a rank: data loaders, pools and queues, with every way to start them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")

METHODS = ("fork", "forkserver", "spawn")
DATA = """
    import torch, multiprocessing, functools
    from torch.utils.data import Dataset, DataLoader

    SCALE = 10
    offset = torch.ones(1)

    class Item:
        def __init__(self, x): self.x = x

    class Numbers(Dataset):
        def __len__(self): return 4
        def __getitem__(self, i):
            return Item(offset * SCALE * i)
"""


@pytest.mark.parametrize("method", METHODS)
def test_data_loaders_take_lambdas_and_classes_of_the_notebook(
    book: Traveller, method: str
) -> None:
    book.define(DATA)
    shown = book.shown(
        f"""
        LOCAL = 5

        class Twice(Numbers):
            def __getitem__(self, i):
                item = super().__getitem__(i)
                item.x = item.x * 2 + LOCAL
                return item

        def start(worker): torch.manual_seed(worker)

        loader = DataLoader(
            Twice(), batch_size=2, num_workers=2, multiprocessing_context={method!r},
            collate_fn=lambda items: items, worker_init_fn=start,
        )
        print([(type(i) is Item, int(i.x)) for batch in loader for i in batch])
        """
    )
    assert shown == ["[(True, 5), (True, 25), (True, 45), (True, 65)]"]


@pytest.mark.parametrize("method", METHODS)
def test_processes_pools_and_queues_know_the_notebooks_classes(
    book: Traveller, method: str
) -> None:
    book.define(
        DATA,
        """
        def work(x):
            return Item(x * SCALE)

        def answer(queue, replies, make):
            replies.put(make(queue.get()))
        """,
    )
    shown = book.shown(
        f"""
        from concurrent.futures import ProcessPoolExecutor
        context = multiprocessing.get_context({method!r})
        queue, replies = context.Queue(), context.Queue()
        process = context.Process(target=answer, args=(queue, replies, lambda i: Item(i.x + 1)))
        process.start()
        queue.put(Item(1))
        reply = replies.get()
        process.join()
        print(type(reply) is Item, reply.x, process.exitcode)
        def late(x):
            return work(x)
        with context.Pool(2) as pool:
            print([(type(i) is Item, i.x) for i in pool.map(work, [1, 2])])
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(late, 3).result().x)
        """
    )
    assert shown == ["True 2 0", "[(True, 10), (True, 20)]", "30"]


def test_torch_multiprocessing_shares_tensors_of_the_rank(book: Traveller) -> None:
    book.define(
        """
        import torch, torch.multiprocessing as mp

        def fill(index, shared):
            shared[index] = index + total.sum()
        """
    )
    shown = book.shown(
        """
        total, shared = torch.ones(2), torch.zeros(2)
        mp.spawn(fill, args=(shared,), nprocs=2)
        print(shared.tolist())
        """
    )
    assert shown == ["[2.0, 3.0]"]


def test_a_workers_traceback_names_the_cell(book: Traveller) -> None:
    book.define(DATA)
    number = book.kernel.value("len(In)")
    book.define(
        """
        class Broken(Numbers):
            def __getitem__(self, i):
                raise ValueError("broken item")
        """
    )
    cell = book.train(
        """
        for method in ("fork", "spawn"):
            try:
                list(DataLoader(Broken(), num_workers=1, multiprocessing_context=method))
            except ValueError as error:
                last = error
        raise last
        """
    )
    assert f'File "Cell In[{number}]", line 3, in __getitem__' in cell.error
    assert "ValueError: broken item" in cell.error
