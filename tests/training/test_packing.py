"""What a notebook's code takes along, run on the rank's side by the rank's own loader."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.errors import InputError, ShippingError, UnknownNameError
from jupyter_aios.training.packing.bundle import pack_cell, pack_function, pack_script
from jupyter_aios.training.packing.cell import literal_backend, parse_cell
from jupyter_aios.training.packing.environment import environment_for_job
from jupyter_aios.training.packing.names import unbound_names
from tests.notebook import ROOT, output_of, run_rank

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jupyter_aios.training.packing.bundle import Packed
    from tests.notebook import Notebook

NET = """\
import dataclasses


class Net:
    size = 3

    def double(self, x):
        return self.size * x
"""


def pack(notebook: Notebook, cell: str, push: Sequence[str] = ()) -> Packed:
    name = f"Cell In[{notebook.shell.execution_count}]"
    text = textwrap.dedent(cell)
    return pack_cell(text, notebook.names, name=name, first_line=2, push=push)


def how(packed: Packed) -> dict[str, str]:
    return {entry.name: entry.how for entry in packed.code.manifest}


def why(packed: Packed, name: str) -> str:
    return next(entry.why for entry in packed.code.manifest if entry.name == name)


def shown(notebook: Notebook, cell: str) -> str:
    return output_of(pack(notebook, cell), notebook.folder / "rank")


# ------------------------------------------------------------------------------- names of a cell


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("x = 1\nprint(x)", {"print"}),
        ("x = x + 1", {"x"}),
        ("x += 1", {"x"}),
        ("for i in range(3): t = i\nt", {"range"}),
        ("f = lambda a: a + b", {"b"}),
        ("[a for a in b if c]", {"b", "c"}),
        ("def f(a, b=c): return a + d", {"c", "d"}),
        ("def f(): return a\na = 1\nf()", set()),
        ("def f(): return a\nf()\na = 1", {"a"}),
        ("@deco\ndef f(): return a\na = 1", {"deco", "a"}),
        ("class A(B):\n  x = y\n  z = x\n  def m(self): return w\nw = 1\nA()", {"B", "y"}),
        ("if c: x = 1\nelse: x = 2\nx", {"c"}),
        ("if c: x = 1\nx", {"c", "x"}),
        ("try: import a\nexcept E as e: a = None\na", {"E"}),
        ("with o() as f: f.read()\ndel f\nf", {"o", "f"}),
        ("import a.b as c, d.e\nc, d, a", {"a"}),
        ("def f():\n  global n\n  n += 1\nf()", {"n"}),
        ("def f(): return g()\ndef g(): return f() + h\nf()", {"h"}),
        ("match p:\n  case [q]: q\nq", {"p", "q"}),
        ("x: int = y\nx", {"int", "y"}),
    ],
)
def test_a_cell_reads_what_it_does_not_bind_before(cell: str, names: set[str]) -> None:
    assert unbound_names(parse_cell(cell)) == names


# ------------------------------------------------------------------------------------ what travels


def test_definitions_of_earlier_cells_arrive_as_source(notebook: Notebook) -> None:
    notebook.run("factor = 2", NET, "def run(x):\n    return Net().double(x) * factor")
    packed = pack(notebook, "print(run(7))")
    assert how(packed) == {"run": "source", "Net": "source", "factor": "value"}
    assert output_of(packed, notebook.folder / "rank") == "42"


def test_a_definition_keeps_its_cell_and_its_line(notebook: Notebook) -> None:
    notebook.run("pass", "# one\n\ndef fail():\n    x = 1\n    raise ValueError(x)")
    done = run_rank(pack(notebook, "\nfail()"), notebook.folder / "rank")
    assert 'File "Cell In[2]", line 5, in fail' in done.stderr
    assert 'File "Cell In[3]", line 3, in <module>' in done.stderr
    assert "raise ValueError(x)" in done.stderr


def test_modules_and_what_they_hold_are_imported(notebook: Notebook) -> None:
    notebook.run(
        "import math as m, json\nfrom collections import OrderedDict as OD\nimport xml.dom"
    )
    packed = pack(notebook, "print(m.floor(2.5), OD(a=1), json.dumps([]), xml.dom.Node.TEXT_NODE)")
    assert set(how(packed).values()) == {"import"}
    assert ("OD", "collections", "OrderedDict") in packed.code.imports
    assert output_of(packed, notebook.folder / "rank") == "2 OrderedDict({'a': 1}) [] 3".replace(
        "OrderedDict({'a': 1})", repr(notebook.run("OD(a=1)"))
    )


def test_the_class_is_one_for_definitions_and_values(notebook: Notebook) -> None:
    notebook.run(NET, "net = Net()\nclasses = {'net': Net}")
    assert shown(notebook, "print(type(net) is Net, classes['net'] is Net, net.double(2))") == (
        "True True 6"
    )


def test_values_that_share_an_object_still_share_it(notebook: Notebook) -> None:
    notebook.run("weights = [1, 2]\noptimizer = {'params': weights}")
    assert shown(notebook, "weights.append(3)\nprint(optimizer)") == "{'params': [1, 2, 3]}"


def test_a_class_that_only_a_value_is_made_of_travels_too(notebook: Notebook) -> None:
    notebook.run(
        "offset = 5", "class Box:\n    def get(self):\n        return offset", "box = Box()"
    )
    packed = pack(notebook, "print(box.get())")
    assert how(packed) == {"box": "value", "Box": "source", "offset": "value"}
    assert output_of(packed, notebook.folder / "rank") == "5"


def test_inspect_and_pickle_work_on_what_arrived(notebook: Notebook) -> None:
    notebook.run(NET)
    cell = """
    import inspect, pickle
    print(inspect.getsource(Net.double).strip().splitlines()[0])
    print(type(pickle.loads(pickle.dumps(Net()))) is Net, Net.__module__)
    """
    assert shown(notebook, cell) == "def double(self, x):\nTrue __main__"


def test_dataclasses_under_future_annotations_travel_as_source(notebook: Notebook) -> None:
    notebook.run(
        "from __future__ import annotations",
        "import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: Missing = 1",
        "@dataclasses.dataclass\nclass Late:\n    point: Point\n    z: Nowhere = 2",
    )
    packed = pack(notebook, "def f(a: Unknown): return a\nprint(f(Late(Point())))")
    assert how(packed) == {"Late": "source", "Point": "source", "dataclasses": "import"}
    assert output_of(packed, notebook.folder / "rank") == "Late(point=Point(x=1), z=2)"


@pytest.mark.parametrize(
    ("patch", "expected", "reason"),
    [
        ("Net.double = lambda self, x: 40", "40", "double was replaced"),
        ("Net.size = 5", "10", "size was changed"),
        ("Net.extra = 1", "6", "extra was added"),
        ("def double(self, x):\n    return 50\nNet.double = double", "50", "double was replaced"),
        ("del Net.double\nNet.__getattr__ = lambda s, n: lambda x: 9", "9", "double was removed"),
    ],
)
def test_a_patched_class_travels_by_value_and_the_manifest_says_so(
    notebook: Notebook, patch: str, expected: str, reason: str
) -> None:
    notebook.run(NET, patch)
    packed = pack(notebook, "print(Net().double(2))")
    assert how(packed)["Net"] == "value"
    assert reason in why(packed, "Net")
    assert output_of(packed, notebook.folder / "rank") == expected


@pytest.mark.parametrize(
    ("definition", "patch", "expected"),
    [
        ("def f(x=1):\n    return x", "f.__defaults__ = (2,)", "2"),
        ("def f(x=1):\n    return x", "f.__code__ = (lambda x=1: 3).__code__", "3"),
        ("k = 1\ndef f(x=k):\n    return x", "k = 5", "1"),
        ("def f():\n    return f.calls", "f.calls = 4", "4"),
        ("def make(n):\n    def f():\n        return n\n    return f", "f = make(6)", "6"),
        ("f = lambda: 7", "", "7"),
        ("def f():\n    return 1", "g = f\nf = lambda: g() + 7", "8"),
        (
            "import functools\ndef f():\n    return 1",
            (
                "def twice(h):\n    @functools.wraps(h)\n    def inner():\n        return 2 * h()\n"
                "    return inner\nf = twice(f)"
            ),
            "2",
        ),
    ],
)
def test_a_function_that_is_no_longer_its_source_travels_by_value(
    notebook: Notebook, definition: str, patch: str, expected: str
) -> None:
    notebook.run(definition, patch)
    packed = pack(notebook, "print(f())")
    assert how(packed)["f"] == "value"
    assert output_of(packed, notebook.folder / "rank") == expected


def test_a_function_by_value_lives_in_the_globals_of_the_rank(notebook: Notebook) -> None:
    notebook.run("count = 0", "bump = lambda: globals().update(count=count + 1)")
    assert shown(notebook, "bump(); bump(); print(count)") == "2"


@pytest.mark.parametrize(
    "definition",
    [
        "import functools\n@functools.lru_cache\ndef f(x):\n    return x + 1",
        (
            "import contextlib\n@contextlib.contextmanager\ndef g(x):\n    yield x + 1\n"
            "def f(x):\n    with g(x) as y:\n        return y"
        ),
        (
            "import functools\n"
            "def deco(h):\n    @functools.wraps(h)\n    def inner(x):\n        return h(x)\n"
            "    return inner\n@deco\ndef f(x):\n    return x + 1"
        ),
    ],
)
def test_decorated_functions_travel_as_source(notebook: Notebook, definition: str) -> None:
    notebook.run(definition)
    packed = pack(notebook, "print(f(1))")
    assert how(packed)["f"] == "source"
    assert output_of(packed, notebook.folder / "rank") == "2"


def test_what_definitions_need_is_there_before_them(notebook: Notebook) -> None:
    notebook.run(
        "class Config:\n    lr = 0.5",
        "DEFAULT = Config()",
        "def base():\n    class Base:\n        limit = 9\n    return Base",
        "Base = base()",
        "class Late(Base):\n    def __init__(self, config=DEFAULT):\n        self.config = config",
    )
    packed = pack(notebook, "print(Late().config.lr, Late.limit, DEFAULT is Late().config)")
    assert how(packed) == {
        "Late": "source", "DEFAULT": "value", "Config": "source", "Base": "value",
    }  # fmt: skip
    assert output_of(packed, notebook.folder / "rank") == "0.5 9 True"


def test_a_registry_that_holds_what_it_decorates_does_not_run_in_circles(
    notebook: Notebook,
) -> None:
    notebook.run(
        "REGISTRY = {}\ndef register(cls):\n    REGISTRY[cls.__name__] = cls\n    return cls",
        "@register\nclass Net:\n    def get(self):\n        return 3",
    )
    packed = pack(notebook, "print(REGISTRY['Net'] is Net, len(REGISTRY), Net().get())")
    assert output_of(packed, notebook.folder / "rank") == "True 1 3"


def test_an_older_class_that_an_object_still_has_is_not_taken_for_the_newer(
    notebook: Notebook,
) -> None:
    notebook.run("class A:\n    def v(self):\n        return 1", "old = A()")
    notebook.run("class A:\n    def v(self):\n        return 2")
    assert shown(notebook, "print(old.v(), A().v(), type(old) is A)") == "1 2 False"


def test_a_cell_that_ran_twice_gives_its_newest_definition(notebook: Notebook) -> None:
    notebook.run("def f():\n    return 1", "def f():\n    return 2")
    packed = pack(notebook, "print(f())")
    assert packed.code.files[0].origin == "Cell In[2]"
    assert output_of(packed, notebook.folder / "rank") == "2"


@pytest.mark.parametrize(
    "definition",
    [
        "import enum\nclass C(enum.Enum):\n    a = 1",
        "from typing import NamedTuple\nclass C(NamedTuple):\n    a: int = 1",
        "import abc\nclass C(abc.ABC):\n    a = 1",
        "class C(Exception):\n    a = 1",
        "class C:\n    __slots__ = ('b',)\n    @property\n    def a(self):\n        return self.b",
        "class C:\n    __a = 1\n    def __b(self):\n        return super().__init__()",
        (
            "class C:\n    @staticmethod\n    def a():\n        return 1\n    @classmethod\n"
            "    def b(cls):\n        return cls.a()"
        ),
        "class C:\n    class Inner:\n        a = 1\n    p = [(i, j) for i in [1] for j in 'ab']",
        "class C:\n    if True:\n        def a(self):\n            return 1",
    ],
)
def test_classes_of_all_kinds_travel_as_source(notebook: Notebook, definition: str) -> None:
    notebook.run(definition)
    packed = pack(notebook, "print(C.__name__)")
    assert how(packed)["C"] == "source", why(packed, "C")
    assert output_of(packed, notebook.folder / "rank") == "C"


def test_names_without_an_object_are_left_to_the_cell(notebook: Notebook) -> None:
    assert how(pack(notebook, "try:\n    nowhere\nexcept NameError:\n    pass")) == {}


def test_the_shell_stays_at_home(notebook: Notebook) -> None:
    notebook.run("1")
    assert how(pack(notebook, "open, exit, In, Out, get_ipython, _")) == {}


def test_pushed_names_travel_unread(notebook: Notebook) -> None:
    notebook.run("x = 4")
    packed = pack(notebook, "print(globals()['x'])", push=["x"])
    assert output_of(packed, notebook.folder / "rank") == "4"


def test_a_small_view_of_a_large_tensor_does_not_take_all_of_it_along(notebook: Notebook) -> None:
    notebook.run("import torch\nlarge = torch.zeros(1_000_000)\nview = large[:10]")
    packed = pack(notebook, "view")
    assert sum(len(data) for data in packed.blobs.values()) < 10_000


def test_model_and_optimizer_stay_tied(notebook: Notebook) -> None:
    notebook.run(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.layer = torch.nn.Linear(2, 1)",
        "model = Net()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    )
    packed = pack(
        notebook,
        "print(optimizer.param_groups[0]['params'][0] is model.layer.weight, type(model) is Net)",
    )
    assert how(packed)["Net"] == "source"
    assert output_of(packed, notebook.folder / "rank") == "True True"


def test_much_that_travels_is_warned_of(notebook: Notebook) -> None:
    notebook.run("data = bytes(65 * 2**20)\nsmall = 1")
    packed = pack(notebook, "data, small")
    assert packed.warning.startswith("65 MiB travel to the ranks; the largest: data (65 MiB)")


# ------------------------------------------------------------- what would differ without a word


def test_a_function_whose_decorator_keeps_state_travels_by_value(notebook: Notebook) -> None:
    notebook.run(
        "import functools\ndef count(h):\n    @functools.wraps(h)\n    def inner():\n"
        "        inner.calls += 1\n    inner.calls = 0\n    return inner",
        "@count\ndef f():\n    pass",
        "f()",
    )
    packed = pack(notebook, "f(); print(f.calls)")
    assert how(packed)["f"] == "value"
    assert why(packed, "f") == "its decorator keeps state since Cell In[2]"
    assert output_of(packed, notebook.folder / "rank") == "2"


def test_an_object_of_a_class_that_was_defined_again_is_told(notebook: Notebook) -> None:
    notebook.run("class A:\n    pass", "old, new = A(), A()", "class A:\n    pass", "new = A()")
    assert pack(notebook, "new, A").notices == ()
    (told,) = pack(notebook, "old").notices
    assert told.startswith("old is an instance of an older A: ")


def test_a_needed_function_with_a_line_of_ipython_is_refused(notebook: Notebook) -> None:
    notebook.run("def f():\n    !ls", "def g():\n    try:\n        %pwd\n    except NameError: 0")
    assert how(pack(notebook, "g()")) == {"g": "source"}
    with pytest.raises(ShippingError, match=r"f \(function\).*line 2, is IPython's: !ls"):
        pack(notebook, "f()")


def test_what_was_set_in_a_library_travels_until_it_is_put_back(notebook: Notebook) -> None:
    notebook.run("import math, textwrap\nbefore = math.gcd", "math.gcd = lambda *x: 40")
    try:
        packed = pack(notebook, "import math\nprint(math.gcd(1, 1))")
    finally:
        notebook.run("math.gcd = before")
    assert why(packed, "math.gcd") == "set in Cell In[2], line 1"
    assert output_of(packed, notebook.folder / "rank") == "40"
    assert "math.gcd" not in how(pack(notebook, "math"))


def test_views_that_overlap_share_on_the_other_side(notebook: Notebook) -> None:
    notebook.run("import torch\nlarge = torch.zeros(1_000_000)\na, b = large[:10], large[5:]")
    notebook.run("b = b[:10]")
    packed = pack(notebook, "a[7] = 1\nprint(b.sum().item())")
    assert sum(len(data) for data in packed.blobs.values()) < 10_000
    assert output_of(packed, notebook.folder / "rank") == "1.0"


def test_an_annotation_never_stands_in_the_way(notebook: Notebook) -> None:
    notebook.run(
        "from __future__ import annotations\nlock = __import__('threading').Lock()",
        "class Locked:\n    def get(self):\n        return lock",
        "def f(x: Locked = None):\n    return 3",
    )
    packed = pack(notebook, "print(f())")
    assert how(packed) == {"f": "source"}
    assert output_of(packed, notebook.folder / "rank") == "3"


def test_a_started_worker_takes_a_lambda_and_does_not_run_the_cell_again(
    notebook: Notebook,
) -> None:
    notebook.run("import multiprocessing\nclass Item:\n    x = 4")
    cell = """
    print("once")
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    worker = context.Process(target=lambda q: q.put(Item()), args=(queue,))
    worker.start()
    print(type(queue.get()) is Item)
    """
    assert shown(notebook, cell) == "once\nTrue"


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("x = 1\nfor x in range(3)\n  pass", "line 3 of the cell: expected ':': for x in range(3)"),
        ("return 1", "line 2 of the cell: 'return' outside function: return 1"),
        ("x = 1\n%matplotlib inline", "line 3 of the cell is IPython's"),
        ("files = !ls", "line 2 of the cell is IPython's"),
        ("!pip install x", "line 2 of the cell is IPython's"),
        ("%%time\nx", "line 2 of the cell is IPython's"),
        ("torch.nn?", "line 2 of the cell is IPython's"),
        ("await x()", "line 2 of the cell: 'await' outside function"),
        ("x = '", "line 2 of the cell: unterminated string literal"),
    ],
)
def test_a_cell_that_is_not_plain_python_is_told_by_its_line(cell: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        pack_cell(cell, {}, first_line=2)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("(i for i in [])", "x (generator) cannot travel to the ranks: cannot pickle 'generator'"),
        ("__import__('threading').Lock()", "x (lock) cannot travel to the ranks: cannot pickle"),
        ("__import__('socket').socketpair()", "x (tuple) cannot travel to the ranks: cannot"),
        ("__import__('io').open(__import__('os').devnull)", "it holds an open file (/dev/null)"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_cannot_be_pickled_is_named(notebook: Notebook, value: str, cause: str) -> None:
    notebook.run(f"x = {value}")
    for push in ([], ["x"]):
        with pytest.raises(ShippingError) as caught:
            pack(notebook, "x", push=push)
        assert cause in caught.value.message
        assert "inside the cell" in caught.value.hint
    notebook.run(
        "[end.close() for end in (x if isinstance(x, tuple) else [x]) if hasattr(end, 'close')]"
    )


def test_all_unpicklable_names_are_told_at_once(notebook: Notebook) -> None:
    notebook.run("a = (i for i in [])\nb = (i for i in [])")
    with pytest.raises(ShippingError, match=r"a \(generator\).*; b \(generator\)"):
        pack(notebook, "a, b")


def test_a_pushed_name_that_does_not_exist_is_answered_with_the_nearest(
    notebook: Notebook,
) -> None:
    notebook.run("learning_rate = 1")
    with pytest.raises(UnknownNameError) as caught:
        pack(notebook, "pass", push=["learing_rate"])
    assert caught.value.hint == "did you mean learning_rate?"
    with pytest.raises(UnknownNameError) as caught:
        pack(notebook, "pass", push=["zz"])
    assert caught.value.hint == "there is: learning_rate"


# ----------------------------------------------------------------------- functions and scripts


def test_a_function_of_the_notebook_travels_with_its_arguments(notebook: Notebook) -> None:
    notebook.run("k = 3\ndef f(x, *, y):\n    return x * y + k")
    packed = pack_function(notebook.names["f"], (5,), {"y": 8})
    assert packed.code.function == "f"
    assert output_of(packed, notebook.folder / "rank") == "returned 43"


def test_a_lambda_and_an_importable_function_travel_too(notebook: Notebook) -> None:
    packed = pack_function(notebook.run("lambda x: x + 1"), (1,))
    assert output_of(packed, notebook.folder / "one") == "returned 2"
    assert output_of(pack_function(textwrap.dedent, (" x",)), notebook.folder / "two") == (
        "returned 'x'"
    )


def test_a_function_of_a_plain_script_travels_as_source(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import pickle, sys\n"
        "class Empty(Exception):\n    pass\n"
        "def work(n):\n    return n, Empty.__name__\n"
        "from jupyter_aios.training.packing.bundle import pack_function\n"
        "pickle.dump(pack_function(work, (2,)), open(sys.argv[1], 'wb'))\n"
    )
    target = tmp_path / "packed"
    command = [sys.executable, str(script), str(target)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, timeout=60)
    packed: Packed = pickle.loads(target.read_bytes())  # noqa: S301 - written a line above
    assert how(packed) == {"work": "source", "Empty": "source", "__aios_arguments__": "value"}
    assert packed.code.files[0].original == str(script)
    assert output_of(packed, tmp_path / "rank") == "returned (2, 'Empty')"


def test_a_script_travels_whole_and_knows_its_path(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes("# -*- coding: latin-1 -*-\nprint('ä')\n".encode("latin-1"))
    packed = pack_script(script)
    assert packed.code.files[0].original == str(script)
    assert output_of(packed, tmp_path / "rank") == "ä"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\xff\xfe", "is not Python"), (b"def", "line 1 of train.py")],
)
def test_a_script_that_cannot_run_is_told_before_anything_starts(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    script = tmp_path / "train.py"
    if content is not None:
        script.write_bytes(content)
    with pytest.raises(InputError, match=message):
        pack_script(script)


# ------------------------------------------------------------------------- backend, environment


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("dist.init_process_group('nccl')", ("nccl", 1)),
        ("\ninit_process_group(backend='gloo', rank=0)", ("gloo", 2)),
        ("dist.init_process_group(backend)", None),
        ("dist.init_process_group()", None),
    ],
)
def test_a_literal_backend_is_found(cell: str, found: tuple[str, int] | None) -> None:
    assert literal_backend(parse_cell(cell)) == found


def test_only_what_is_listed_and_nothing_secret_travels_in_the_environment() -> None:
    environment = {
        "PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "1", "http_proxy": "http://proxy:3128",
        "HTTPS_PROXY": "http://me:secret@proxy:3128", "HF_HOME": "/hf", "HF_TOKEN": "t",
        "AIOS_API_KEY": "k", "TORCH_AUTH": "a", "MPLBACKEND": "inline", "JPY_PARENT_PID": "1",
        "AWS_SECRET_ACCESS_KEY": "s", "RANDOM": "1", "PYTHONPATH": "/src", "PYTHONSTARTUP": "/x",
        "NCCL_PASSWORD": "p", "XDG_CACHE_HOME": "/c",
    }  # fmt: skip
    assert [name for name, _ in environment_for_job(environment)] == [
        "HF_HOME", "LC_ALL", "OMP_NUM_THREADS", "PATH", "PYTHONPATH", "XDG_CACHE_HOME",
        "http_proxy",
    ]  # fmt: skip


def test_packing_imports_no_torch() -> None:
    code = "import sys, jupyter_aios.training.packing.bundle; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
