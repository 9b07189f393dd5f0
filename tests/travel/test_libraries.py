"""Libraries that the notebook changed, and helper modules beside it."""

from __future__ import annotations

import sys
import venv
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.spine.kernels import Kernels
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")


def test_what_the_notebook_replaced_in_libraries_is_replaced_in_the_ranks(
    book: Traveller,
) -> None:
    book.define(
        """
        import math, torch, textwrap
        from torch import nn
        before = math.gcd, nn.Linear.forward, textwrap.dedent, nn.ReLU.extra_repr
        calls = []

        def forward(self, x):
            calls.append(type(self).__name__)
            return original(self, x) + 100
        original = nn.Linear.forward
        nn.Linear.forward = forward
        math.gcd = lambda x: -x
        setattr(textwrap, "dedent", lambda x: "dedented")
        def install(owner):
            owner.extra_repr = lambda self: "mine"
        install(nn.ReLU)
        torch.backends.cudnn.benchmark = True
        torch.set_default_dtype(torch.float64)
        """
    )
    cell = """
        print(math.gcd(4), textwrap.dedent(''), nn.ReLU())
        layer = nn.Linear(1, 1)
        torch.nn.init.zeros_(layer.weight); torch.nn.init.zeros_(layer.bias)
        print(layer(torch.ones(1)).item(), calls, torch.zeros(1).dtype)
        print(torch.backends.cudnn.benchmark)
    """
    try:
        assert book.shown(cell) == [
            "-4 dedented ReLU(mine)",
            "100.0 ['Linear'] torch.float64",
            "True",
        ]
        manifest = book.manifest(cell)
        assert "set in Cell In[" in manifest["torch.nn.modules.linear.Linear.forward"]
        assert manifest["math.gcd"].startswith("value")
    finally:
        book.define(
            """
            math.gcd, nn.Linear.forward, textwrap.dedent, nn.ReLU.extra_repr = before
            torch.backends.cudnn.benchmark = False
            torch.set_default_dtype(torch.float32)
            """
        )
    assert "math.gcd" not in book.manifest(cell)
    assert book.shown("print(math.gcd(4, 6))") == ["2"]


def test_a_replacement_that_cannot_travel_is_told(book: Traveller) -> None:
    book.define(
        """
        import math, threading
        before, lock = math.lcm, threading.Lock()
        def locked(*x, lock=lock):
            return -1
        math.lcm = locked
        """
    )
    cell = book.train("print(math.lcm(2, 3))")
    book.define("math.lcm = before")
    assert cell.lines == ["6"], cell
    assert "notice: math.lcm was set in Cell In[" in cell.stderr
    assert "but cannot travel: cannot pickle '_thread.lock' object" in cell.stderr


def test_helpers_beside_the_notebook_are_imported_as_they_are_now(book: Traveller) -> None:
    folder = book.folder
    (folder / "helper.py").write_text(
        "def f():\n    return 'old'\nclass Net:\n    pass\nRATE = 1\n"
    )
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "parts" / "__init__.py").write_text("from .inner import g\n")
    (folder / "parts" / "inner.py").write_text("def g():\n    return 'g'\n")
    book.define("import helper, parts, importlib\nfrom helper import Net\nnet = Net()")
    book.define("helper.RATE = 0.5")
    cell = "print(helper.f(), parts.g(), type(net) is Net, helper.RATE)"
    first = book.train(cell)
    assert (first.lines, first.stderr) == (["old g True 0.5"], "")
    (folder / "helper.py").write_text(
        "def f():\n    return 'edited'\nclass Net:\n    x = 1\nRATE = 1\n"
    )
    (folder / "parts" / "inner.py").write_text("def g():\n    return 'edited too'\n")
    stale = book.train(cell)
    assert stale.lines == ["edited edited too True 0.5"]
    assert (
        "notice: helper.py has been edited since this notebook imported it, and the ranks import"
        " it as it is now; importlib.reload(helper) makes both equal" in stale.stderr
    )
    assert "notice: parts/inner.py has been edited" in stale.stderr
    book.define("importlib.reload(helper); importlib.reload(parts.inner); importlib.reload(parts)")
    book.define("from helper import Net\nnet = Net()")
    again = book.train(cell)
    assert again.lines == ["edited edited too True 1"]
    assert again.stderr == ""


def test_an_editable_install_is_served_as_it_is_on_disk(
    travel_kernels: Kernels, tmp_path: Path
) -> None:
    venv.create(tmp_path / "environment", symlinks=True)
    site = next((tmp_path / "environment").glob("lib/python3.*/site-packages"))
    here = next(path for path in sys.path if path.endswith("site-packages"))
    # addsitedir also reads the .pth files there: the checkout under test is one.
    (site / "first.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    source = tmp_path / "src"
    (source / "edited").mkdir(parents=True)
    (source / "edited" / "__init__.py").write_text("VERSION = 1\n")
    (site / "__editable__.edited.pth").write_text(f"{source}\n")
    kernel = travel_kernels.start(str(tmp_path / "environment" / "bin" / "python"), tmp_path)
    cell = "%%aios_train --no-autolog\nimport edited\nprint(edited.VERSION)"
    assert kernel.run(cell).lines == ["1"]
    (source / "edited" / "__init__.py").write_text("VERSION = 'two'\n")
    assert kernel.run(cell).lines == ["two"]
