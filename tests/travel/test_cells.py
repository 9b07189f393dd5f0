"""What stands in cells beside definitions: IPython's lines, imports, scripts, the surroundings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")


def test_ipython_lines_beside_a_needed_definition_stay_behind(book: Traveller) -> None:
    book.define(
        """
        %matplotlib inline
        !true
        # a comment
        def f():
            return 1
        print?
        """,
        """
        files = !echo one two
        here = %pwd
        def g():
            return files, here
        """,
        "%%time\ndef timed():\n    return f() + 1",
        "%%capture\ndef quiet():\n    return timed() + 1",
    )
    shown = book.shown("print(f(), *g()[0], g()[1], timed(), quiet())")
    assert shown == [f"1 one two {book.folder} 2 3"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def f():\n    !ls", "f (function) cannot travel to the ranks: Cell In[{n}], line 2, is"),
        ("def f():\n    x = %time 1\n    return x", "line 2, is IPython's: %time 1"),
        ("if True:\n    def f():\n        !ls -l", "line 3, is IPython's: !ls -l"),
    ],
)
def test_a_needed_function_with_an_ipython_line_is_named(
    book: Traveller, body: str, told: str
) -> None:
    book.define(body)
    number = int(book.kernel.value("In.__len__()")) - 2
    cell = book.train("f()")
    assert told.format(n=number) in cell.error
    assert "plain Python" in cell.error
    assert "jobs" not in cell.status


@pytest.mark.parametrize("line", ["%matplotlib inline", "!ls", "x = !ls", "len?", "%%time"])
def test_an_ipython_line_in_the_training_cell_is_named(book: Traveller, line: str) -> None:
    cell = book.train(f"a = 1\n{line}")
    assert cell.error.startswith("InputError: line 3 of the cell is IPython's")
    assert line in cell.error


def test_star_imports_travel(book: Traveller) -> None:
    (book.folder / "starred.py").write_text(
        "import math\nLIMIT = 5\ndef area(r):\n    return round(math.pi * r * r)\n"
        "class Thing:\n    pass\n"
    )
    book.define("from starred import *\nfrom math import *", "thing = Thing()\ntau = 1")
    shown = book.shown(
        """
        print(area(2), LIMIT, type(thing) is Thing, Thing.__module__, sqrt(9), tau)
        from math import *
        print(round(tau, 2))
        """
    )
    assert shown == ["13 5 True starred 3.0 1", "6.28"]


def test_definitions_of_a_script_that_was_run_travel(book: Traveller) -> None:
    (book.folder / "defines.py").write_text(
        "K = 1\nclass Net:\n    def get(self):\n        return K\n"
        "def f():\n    return Net().get() + K\n"
        "if __name__ == '__main__':\n    made = Net()\n"
    )
    book.define("%run defines.py", "K = 50")
    assert book.shown("print(f(), Net().get(), K, made.get(), type(made) is Net)") == [
        "2 1 50 1 True"
    ]


def test_the_cell_is_the_main_program(book: Traveller) -> None:
    book.define("def main():\n    return __name__")
    (book.folder / "guarded.py").write_text(
        "import os\nif __name__ == '__main__':\n"
        "    print('script', __file__ == os.path.abspath('guarded.py'))\n"
    )
    shown = book.shown("if __name__ == '__main__':\n    print(main())")
    assert shown == ["__main__"]
    cell = book.define(
        "import jupyter_aios as aios\njob = aios.submit('guarded.py')",
        "job.wait()\nprint(job.logs())",
    )
    assert "script True" in cell.stdout


def test_relative_paths_are_the_notebooks(book: Traveller) -> None:
    (book.folder / "data").mkdir(exist_ok=True)
    (book.folder / "data" / "x.txt").write_text("beside")
    book.define("from pathlib import Path\npath = Path('data/x.txt')")
    assert book.shown("import os\nprint(path.read_text(), os.getcwd())") == [
        f"beside {book.folder}"
    ]
    book.define("%cd -q data")
    try:
        assert book.shown("print(Path('x.txt').read_text())") == ["beside"]
    finally:
        book.define("%cd -q ..")


def test_a_seed_of_the_notebook_stays_there_and_generators_travel(book: Traveller) -> None:
    book.define(
        """
        import random, numpy as np, torch
        random.seed(1); np.random.seed(1); torch.manual_seed(1)
        rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(7)
        first = torch.rand(1, generator=torch.Generator().manual_seed(7)).item()
        expected = (np.random.default_rng(5).random(), first)
        def draw(): return random.random(), np.random.rand(), torch.rand(1).item()
        notebook = draw()
        """
    )
    cell = """
        print((rng.random(), torch.rand(1, generator=generator).item()) == expected)
        print(sum(a == b for a, b in zip(notebook, draw())))
        torch.manual_seed(1)
        print(torch.rand(1).item() == notebook[2])
    """
    assert book.shown(cell) == ["True", "0", "True"]
