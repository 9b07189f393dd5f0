"""What a person sees of travelling code: tracebacks, sources, the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")

WIDTH = 100


def next_cell(book: Traveller) -> int:
    """Return the number of the next cell."""
    return int(book.kernel.value("len(In)"))


def test_a_traceback_names_the_cells_and_lines_of_all_its_frames(book: Traveller) -> None:
    first = next_cell(book)
    book.define(
        """
        class Net:
            def forward(self, x):
                def inner():
                    return [1 / y for y in x]
                return inner()
        """,
        """
        def closed(net):
            def call(x):
                return net.forward(x)
            return call
        call = closed(Net())
        late = lambda x: call(x)
        """,
    )
    cell = book.train("x = [1, 0]\nlate(x)")
    for frame in (
        f'File "Cell In[{first + 2}]", line 3, in <module>\n    late(x)',
        f'File "Cell In[{first + 1}]", line 6, in <lambda>\n    late = lambda x: call(x)',
        f'File "Cell In[{first + 1}]", line 3, in call\n    return net.forward(x)',
        f'File "Cell In[{first}]", line 5, in forward\n    return inner()',
        f'File "Cell In[{first}]", line 4, in <listcomp>\n    return [1 / y for y in x]',
    ):
        assert frame in cell.error
    assert "jupyter_aios" not in cell.error
    assert "/code/" not in cell.error


def test_chained_errors_and_groups_name_their_cells(book: Traveller) -> None:
    first = next_cell(book)
    book.define(
        """
        def inner():
            raise KeyError("lost")

        def outer():
            try:
                inner()
            except KeyError as error:
                raise ValueError("wrong") from error

        def group():
            errors = []
            for function in (inner, outer):
                try:
                    function()
                except Exception as error:
                    errors.append(error)
            raise ExceptionGroup("both", errors)
        """
    )
    chained = book.train("outer()").error
    assert chained.index(f'File "Cell In[{first}]", line 2, in inner') < chained.index(
        "The above exception was the direct cause"
    )
    assert f'File "Cell In[{first}]", line 8, in outer' in chained
    grouped = book.train("group()").error
    assert grouped.count(f'File "Cell In[{first}]", line 2, in inner') == 2
    assert "/code/" not in chained + grouped


def test_a_syntax_error_that_comes_up_in_the_rank_names_its_file(book: Traveller) -> None:
    (book.folder / "broken.py").write_text("x = (\n")
    book.define("def load():\n    import broken")
    number = next_cell(book)
    cell = book.train("try:\n    eval('1 +')\nexcept SyntaxError as e:\n    load()")
    assert f'File "Cell In[{number}]", line 5, in <module>' in cell.error
    assert f'File "Cell In[{number - 2}]", line 2, in load' in cell.error
    assert 'broken.py", line 1' in cell.error
    assert "'(' was never closed" in cell.error


def test_what_the_rank_prints_of_a_traceback_can_be_read_too(book: Traveller) -> None:
    book.define("def fail():\n    raise ValueError('caught')")
    shown = book.shown(
        "import traceback\ntry:\n    fail()\nexcept ValueError:\n    traceback.print_exc()"
    )
    assert shown[-1] == "ValueError: caught"
    assert "    raise ValueError('caught')" in shown


def test_a_definition_under_a_cell_magic_is_named_by_its_cell(book: Traveller) -> None:
    number = next_cell(book)
    book.define("%%time\nx = 1\ndef fail():\n    raise ValueError(x)")
    cell = book.train("fail()")
    assert f'File "Cell In[{number}]", line 4, in fail\n    raise ValueError(x)' in cell.error


def test_getsource_finds_everything_that_a_person_wrote(book: Traveller) -> None:
    book.define(
        """
        import inspect, functools
        from dataclasses import dataclass

        def deco(function):
            @functools.wraps(function)
            def inner(): return function()
            return inner

        @deco
        def decorated():
            return "decorated"

        class Plain:
            def method(self):
                return "method"
            class Inner:
                pass

        @dataclass
        class Data:
            x: int = 1

        class Patched:
            def own(self): return "own"
        Patched.added = 1

        twice = lambda x: x * 2
        """
    )
    shown = book.shown(
        """
        class Here:
            def own(self): return "here"

        def here():
            return 1

        methods = Plain.method, Patched.own
        for thing in (decorated, Plain, Plain.Inner, Data, Patched, *methods, twice, Here, here):
            print(inspect.getsource(thing).strip().replace("\\n", "|"))
        """
    )
    assert shown == [
        '@deco|def decorated():|    return "decorated"',
        'class Plain:|    def method(self):|        return "method"|    class Inner:|        pass',
        "class Inner:|        pass",
        "@dataclass|class Data:|    x: int = 1",
        'class Patched:|    def own(self): return "own"',
        'def method(self):|        return "method"',
        'def own(self): return "own"',
        "twice = lambda x: x * 2",
        'class Here:|    def own(self): return "here"',
        "def here():|    return 1",
    ]


def test_the_dry_run_shows_what_travels_and_how(book: Traveller) -> None:
    book.define(
        """
        import numpy as np
        import torch.nn.functional as F

        class Net:
            def a_method(self): return F
        Net.late = 1

        def use(x): return np.sum(x)

        data = np.zeros(200_000)
        a_name_that_is_longer_than_what_fits_into_the_column_of_a_table = 1
        """
    )
    cell = "use(data), Net, a_name_that_is_longer_than_what_fits_into_the_column_of_a_table"
    planned = book.train(cell, "--dry-run --name plan").result
    lines = planned.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("NAME")) :]
    assert table[0].split() == ["NAME", "HOW", "SIZE", "WHY"]
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in table[1:]}
    assert rows["data"].split(maxsplit=2) == ["value", "1.53", "MiB  a ndarray that the cell reads"]
    assert rows["np"].split(maxsplit=1) == ["import", "import numpy"]
    assert rows["use"].startswith("source")
    assert "late was added since Cell In[" in rows["Net"]
    assert max(len(line) for line in lines if "/" not in line or line in table) <= WIDTH
    assert "nothing was started" in lines[0]
    assert "plan" not in book.define("%aios jobs").result
