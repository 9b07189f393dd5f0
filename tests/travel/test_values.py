"""Objects of the notebook: by which way they go, what they are over there, what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")


def test_closures_take_their_live_values_along(book: Traveller) -> None:
    book.define(
        """
        import functools, torch

        def make(weights, n=2):
            total = 0
            def add(x):
                nonlocal total
                total += x * n + len(weights)
                return total
            return add

        weights = [1, 2]
        add = make(weights)
        scale = functools.partial(torch.mul, torch.ones(2) * 3)
        bound = weights.append
        """,
        "add(10); weights.append(3)",
    )
    shown = book.shown("bound(4)\nprint(add(0), weights, scale(2).tolist())")
    assert shown == ["26 [1, 2, 3, 4] [6.0, 6.0]"]


def test_instances_are_instances_in_both_directions(book: Traveller) -> None:
    book.define(
        """
        import torch
        from dataclasses import dataclass

        class Base:
            pass

        @dataclass
        class Point(Base):
            x: int

        def patched(self): return "patched"
        class Odd: pass
        Odd.extra = patched

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)

        point, odd, net = Point(1), Odd(), Net()
        """
    )
    cell = """
        print(isinstance(point, Point), isinstance(point, Base), isinstance(odd, Odd), odd.extra())
        print(isinstance(net, Net), type(net) is Net, isinstance(pushed, list))
        back = [Point(2), odd, {"net": Net()}]
        own = type("Own", (Base,), {"here": 3})()
    """
    options = "--push pushed --pull back,own,net --name both"
    book.define("pushed = [point]")
    assert book.shown(cell, options) == ["True True True patched", "True True True"]
    book.define("%aios pull both")
    value = book.kernel.value
    assert value("type(back[0]) is Point, back[0] == Point(2), type(back[1]) is Odd") == (
        "(True, True, True)"
    )
    assert value("type(back[2]['net']) is Net, isinstance(own, Base), own.here") == (
        "(True, True, 3)"
    )


def test_a_function_takes_and_returns_instances(book: Traveller) -> None:
    book.define(
        """
        import jupyter_aios as aios

        class Result:
            def __init__(self, value): self.value = value

        def work(given, *, more):
            assert isinstance(given, Result)
            assert isinstance(more[0], Result)
            return [Result(given.value + more[0].value), lambda: given.value]
        """,
        "returned = aios.submit(work, args=[Result(1)], kwargs={'more': [Result(2)]}).result",
    )
    value = book.kernel.value
    assert value("type(returned[0]) is Result, returned[0].value, returned[1]()") == "(True, 3, 1)"


def test_an_instance_of_an_older_class_is_told(book: Traveller) -> None:
    book.define(
        "class Net:\n    version = 1\n    def get(self):\n        return self.version",
        "model = Net()\nmodels = {'a': [model]}",
        "class Net:\n    version = 2\n    def get(self):\n        return self.version",
    )
    cell = book.train(
        "print(model.get(), models['a'][0] is model, Net().get(), isinstance(model, Net))"
    )
    assert cell.lines == ["1 True 2 False"]
    assert (
        "notice: model is an instance of an older Net: it travels with the older class, as it is"
        " here; make model again to have the newer Net" in cell.stderr
    )
    assert "notice: models holds an instance of an older Net" in cell.stderr
    book.define("model = Net()\nmodels = [model]")
    assert "older" not in book.train("print(model.get(), models)").stderr


def test_the_rank_pickles_and_copies_what_it_got(book: Traveller) -> None:
    book.define(
        """
        import copy, io, pickle, torch, multiprocessing

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)
                self.activation = lambda x: x * offset
            def forward(self, x): return self.activation(self.layer(x))

        offset = 3
        def plain(x): return x + offset
        class Box:
            def __init__(self, x): self.x = x
        made = type("Made", (Box,), {})
        model, by_value = Net(), lambda x: plain(x)
        """
    )
    shown = book.shown(
        """
        file = io.BytesIO()
        class Simple(Net):
            def __init__(self):
                super().__init__()
                self.activation = torch.nn.ReLU()
        torch.save(Simple(), file)
        file.seek(0)
        print(type(torch.load(file, weights_only=False)) is Simple)
        twin = copy.deepcopy(model)
        print(type(twin) is Net, torch.equal(twin(torch.ones(1, 2)), model(torch.ones(1, 2))))
        print(pickle.loads(pickle.dumps(plain)) is plain, pickle.loads(pickle.dumps([Box(2)]))[0].x)
        queue = multiprocessing.get_context("fork").SimpleQueue()
        queue.put(Box(5))
        print(type(queue.get()) is Box, by_value(1), made(4).x)
        """
    )
    assert shown == ["True", "True True", "True 2", "True 4 4"]


def test_a_model_saved_whole_in_the_rank_loads_in_the_notebook(book: Traveller) -> None:
    book.define("import torch\nclass Net(torch.nn.Module):\n    size = 4")
    book.shown("torch.save(Net(), 'whole.pt')")
    value = book.kernel.value("type(torch.load('whole.pt', weights_only=False)) is Net")
    assert value == "True"


def test_views_share_their_tensor_and_take_only_what_they_show(book: Traveller) -> None:
    book.define(
        """
        import torch
        large = torch.zeros(1_000_000)
        first, second, far = large[:10], large[5:15].view(2, 5), large[500_000:500_010]
        matrix = torch.arange(12.0).reshape(3, 4)
        column, transposed = matrix[:, 1], matrix.T
        half, empty = torch.ones(3, dtype=torch.float16)[1:], torch.zeros(0)
        """
    )
    manifest = book.manifest("first, second, far")
    assert manifest["far"].startswith("value")
    assert "iB" not in manifest["far"]
    shown = book.shown(
        """
        first[7] = 1
        print(second.sum().item(), far.sum().item(), second.shape)
        column[0] = 50
        print(transposed[1, 0].item(), matrix.sum().item(), half.tolist(), empty.shape)
        """
    )
    assert shown == ["1.0 0.0 torch.Size([2, 5])", "50.0 115.0 [1.0, 1.0] torch.Size([0])"]


def test_a_mapped_file_travels_as_the_file(book: Traveller) -> None:
    book.define(
        """
        import numpy as np
        mapped = np.memmap("mapped.bin", dtype="float32", mode="w+", shape=(1000, 1000))
        mapped[3, 4] = 7
        part = mapped[3]
        """
    )
    assert " MiB" not in book.manifest("mapped")["mapped"]
    shown = book.shown(
        """
        print(type(mapped).__name__, mapped.shape, mapped[3, 4], part[4])
        mapped[0, 0] = 9
        mapped.flush()
        """
    )
    assert shown == ["memmap (1000, 1000) 7.0 7.0"]
    assert float(book.kernel.value("float(mapped[0, 0])")) == 9


def test_modules_travel_with_lambdas_and_hooks(book: Traveller) -> None:
    book.define(
        """
        import torch
        calls = []
        model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
        model.activation = lambda x: x * 2
        model[0].register_forward_hook(lambda module, inputs, output: calls.append("forward"))
        model[1].register_full_backward_hook(lambda module, gin, gout: calls.append("backward"))
        model.register_state_dict_pre_hook(lambda *a: calls.append("state"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5 ** epoch)
        """
    )
    *_, last = book.shown(  # torch warns that the scheduler does not wrap the optimizer any more
        """
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step(); schedule.step(); model.state_dict()
        print(calls, model.activation(3), schedule.get_last_lr(), optimizer.param_groups[0]["lr"])
        """
    )
    assert last == "['forward', 'backward', 'state'] 6 [0.25] 0.25"


def test_gradient_hooks_on_tensors_are_told_to_stay_behind(book: Traveller) -> None:
    book.define(
        """
        import torch
        model = torch.nn.Linear(1, 1)
        model.weight.register_hook(lambda gradient: gradient * 0)
        """
    )
    cell = book.train("model(torch.ones(1, 1)).sum().backward()\nprint(model.weight.grad.item())")
    assert cell.lines == ["1.0"]
    assert (
        "notice: model: gradient hooks of tensors do not travel; register them inside the cell"
        in cell.stderr
    )
    book.define(
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
        "optimizer.register_step_post_hook(lambda *a: print('stepped'))",
    )
    assert "notice: optimizer: hooks of optimizers do not travel" in book.train("optimizer").stderr


def test_autograd_functions_and_scripted_functions_travel(book: Traveller) -> None:
    book.define(
        """
        import torch

        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * 2
            @staticmethod
            def backward(ctx, gradient):
                return gradient * 20

        def poly(x: torch.Tensor, n: int = 2) -> torch.Tensor:
            for _ in range(n):
                x = x * x + 1
            return x

        class Small(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return poly(x)
        """
    )
    shown = book.shown(
        """
        x = torch.ones(1, requires_grad=True)
        Double.apply(x).backward()
        print(x.grad.item(), torch.jit.script(poly)(torch.ones(1)).item())
        print(torch.jit.script(Small())(torch.ones(1)).item())
        """
    )
    assert shown == ["20.0 5.0", "5.0"]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("open('/dev/null')", "TextIOWrapper"),
        ("open('/dev/null', 'rb')", "BufferedReader"),
        ("__import__('threading').Lock()", "lock"),
        ("(i for i in [])", "generator"),
        ("__import__('socket').socket()", "socket"),
        ("__import__('sqlite3').connect(':memory:')", "Connection"),
        ("__import__('threading').Thread(target=print)", "Thread"),
    ],
)
def test_what_belongs_to_this_process_is_refused_by_name(
    book: Traveller, made: str, kind: str
) -> None:
    book.define(f"thing = {made}", "class Holder: pass\nholder = Holder()\nholder.inner = [thing]")
    cell = book.train("print(thing, holder)")
    first, hint = cell.error.splitlines()
    assert first.startswith("ShippingError: ")
    assert f"thing ({kind}) cannot travel to the ranks: " in first
    assert "holder (Holder) cannot travel to the ranks: " in first
    assert hint == "hint: build it inside the cell"
    book.define("getattr(thing, 'close', print)()")
