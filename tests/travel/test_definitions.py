"""Functions and classes of earlier cells, as ranks have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.travel.conftest import Traveller

# One worker: the folder's tests share a kernel and a home with its warm process.
pytestmark = pytest.mark.xdist_group("travel")


def test_the_newest_definition_of_a_name_travels(book: Traveller) -> None:
    book.define(
        "class Net:\n    version = 1\ndef f():\n    return 1",
        "net = Net()",
        "class Net:\n    version = 2\ndef f():\n    return Net.version * 10",
    )
    assert book.shown("print(f(), Net.version, net.version, isinstance(net, Net))") == [
        "20 2 1 False"
    ]


def test_decorated_functions_arrive_decorated(book: Traveller) -> None:
    book.define(
        """
        import functools, contextlib, torch

        def repeat(times):
            def decorate(function):
                @functools.wraps(function)
                def inner(*args):
                    return [function(*args) for _ in range(times)]
                return inner
            return decorate

        def shout(function):
            def inner(x):
                return function(x).upper()
            return inner

        @repeat(2)
        def twice(x):
            "Give it twice."
            return x + 1

        @shout
        def loud(x):
            return x * 2

        @functools.cache
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        @contextlib.contextmanager
        def opened(x):
            yield x

        @torch.no_grad()
        def without_gradient(x):
            return (x * 2).requires_grad
        """,
    )
    shown = book.shown(
        """
        print(twice(3), twice.__name__, twice.__doc__, loud("ab"))
        print(fibonacci(30), fibonacci.cache_info().currsize)
        with opened(7) as x:
            print(x, without_gradient(torch.ones(1, requires_grad=True)))
        """
    )
    assert shown == ["[4, 4] twice Give it twice. ABAB", "832040 31", "7 False"]


def test_the_state_of_a_decorator_travels(book: Traveller) -> None:
    book.define(
        """
        import functools

        def counted(function):
            @functools.wraps(function)
            def inner():
                inner.calls += 1
                return function()
            inner.calls = 0
            return inner

        def numbered(function):
            n = 0
            @functools.wraps(function)
            def inner():
                nonlocal n
                n += 1
                return n
            return inner

        class Memo:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.function, self.seen = function, {}
            def __call__(self, x):
                return self.seen.setdefault(x, self.function(x))

        @counted
        def a():
            return "a"

        @numbered
        def b():
            return "b"

        @Memo
        def c(x):
            return x + len(c.seen)
        """,
        "a(); a(); b(); b(); b(); c(1)",
    )
    assert book.shown("a(); print(a.calls, b(), c(1), c.seen)") == ["3 4 1 {1: 1}"]


def test_decorated_classes_and_methods_arrive_decorated(book: Traveller) -> None:
    book.define(
        """
        import functools

        REGISTRY = {}

        def register(cls):
            REGISTRY[cls.__name__] = cls
            return cls

        def with_tag(tag):
            def decorate(cls):
                cls.tag = tag
                return cls
            return decorate

        def wrapped(cls):
            class Wrapper(cls):
                def get(self):
                    return super().get() + 100
            Wrapper.__name__, Wrapper.__qualname__ = cls.__name__, cls.__qualname__
            return Wrapper

        @register
        @with_tag("t")
        class A:
            def __init__(self):
                self.n = 1
            @staticmethod
            def static(x):
                return x
            @classmethod
            def klass(cls):
                return cls.__name__
            @property
            def prop(self):
                return self.n
            @prop.setter
            def prop(self, value):
                self.n = value
            @functools.cached_property
            def cached(self):
                return self.n * 10
            @functools.lru_cache
            def slow(self, x):
                return x * 2

        @wrapped
        class B:
            def get(self):
                return 1
        """,
    )
    shown = book.shown(
        """
        a = A()
        a.prop = 5
        print(a.static(2), a.klass(), a.prop, a.cached, a.slow(4), a.tag, REGISTRY["A"] is A)
        print(B().get(), B.__name__)
        """
    )
    assert shown == ["2 A 5 50 8 t True", "101 B"]


def test_dataclasses_of_all_kinds_travel(book: Traveller) -> None:
    book.define(
        "START = 3",
        """
        from dataclasses import dataclass, field, fields, replace, asdict
        import torch

        @dataclass
        class Layer:
            size: int = START
            extra: list = field(default_factory=list)

        @dataclass(slots=True, kw_only=True, frozen=True)
        class Config:
            layer: Layer = field(default_factory=Layer)
            lr: float = 0.5

        @dataclass
        class Big(Layer):
            inner: Layer = field(default_factory=lambda: Layer(size=9))
            name: str = "big"

        @dataclass(order=True)
        class Post:
            x: int
            double: int = field(init=False)
            def __post_init__(self):
                self.double = 2 * self.x
        """,
        "config = Config(lr=0.25)\nbig = Big(1, name='b')",
    )
    shown = book.shown(
        """
        print(config, replace(config, lr=1.0).lr, isinstance(config, Config))
        print(big, asdict(Big()), hasattr(config, "__dict__"))
        print(Post(3), Post(1) < Post(2), [f.name for f in fields(Big)])
        print(big == Big(1, name="b"), type(big.inner) is Layer)
        """
    )
    assert shown == [
        "Config(layer=Layer(size=3, extra=[]), lr=0.25) 1.0 True",
        (
            "Big(size=1, extra=[], inner=Layer(size=9, extra=[]), name='b')"
            " {'size': 3, 'extra': [], 'inner': {'size': 9, 'extra': []}, 'name': 'big'} False"
        ),
        "Post(x=3, double=6) True ['size', 'extra', 'inner', 'name']",
        "True True",
    ]


def test_enums_of_all_kinds_travel_and_members_stay_identical(book: Traveller) -> None:
    book.define(
        """
        import enum

        class Colour(enum.Enum):
            RED = 1
            GREEN = enum.auto()
            def nice(self):
                return self.name.lower()

        class Access(enum.Flag):
            R = enum.auto()
            W = enum.auto()
            RW = R | W

        class Level(enum.IntEnum):
            LOW = 1

        class Word(enum.StrEnum):
            HELLO = "hello"

        Made = enum.Enum("Made", ["ONE", "TWO"])
        """,
        "now, access, made = Colour.RED, Access.R | Access.W, Made.TWO",
        "words = {Word.HELLO: Level.LOW}",
    )
    shown = book.shown(
        """
        import pickle
        print(now is Colour.RED, now.nice(), access is Access.RW, access & Access.R is Access.R)
        print(words, pickle.loads(pickle.dumps(now)) is now, Level.LOW + 1, made is Made.TWO)
        """,
        "--pull now,made",
    )
    assert shown == [
        "True red True True",
        "{<Word.HELLO: 'hello'>: <Level.LOW: 1>} True 2 True",
    ]


def test_forward_references_resolve_in_the_rank(book: Traveller) -> None:
    book.define(
        """
        from __future__ import annotations
        import typing
        from dataclasses import dataclass
        import torch

        Pair = tuple[int, int]
        UserId = typing.NewType("UserId", int)
        T = typing.TypeVar("T")

        @dataclass
        class Node:
            value: Pair
            next: Node | None = None
            owner: typing.Optional[Owner] = None

        @dataclass
        class Owner:
            id: UserId
            weights: torch.Tensor | None = None

        def walk(node: Node, of: list["Owner"]) -> typing.Iterator[Pair]:
            yield node.value

        class Box(typing.Generic[T]):
            item: T
        """,
    )
    shown = book.shown(
        """
        hints = typing.get_type_hints(walk)
        print(hints["node"] is Node, hints["of"] == list[Owner], hints["return"])
        print(typing.get_type_hints(Node)["owner"], typing.get_type_hints(Owner)["id"] is UserId)
        print(typing.get_type_hints(Box)["item"], Node((1, 2)), UserId(3))
        """
    )
    assert shown == [
        "True True typing.Iterator[tuple[int, int]]",
        "typing.Optional[__main__.Owner] True",
        "~T Node(value=(1, 2), next=None, owner=None) 3",
    ]


def test_conditional_definitions_travel_as_they_came_out(book: Traveller) -> None:
    book.define(
        """
        import inspect
        fast = False
        if fast:
            def step():
                return "fast"
        else:
            def step():
                return "slow"
        try:
            import nowhere
        except ImportError:
            class Fallback:
                def get(self):
                    return step() + "!"
        for n in range(3):
            def last():
                return n
        with open("/dev/null"):
            inner = lambda: Fallback().get()
        """
    )
    shown = book.shown(
        "print(step(), Fallback().get(), last(), inner())\nprint(inspect.getsource(step))"
    )
    assert shown[:2] == ["slow slow! 2 slow!", "    def step():"]


def test_functions_and_classes_made_inside_functions_travel(book: Traveller) -> None:
    book.define(
        """
        def make(base):
            class Made:
                def get(self):
                    return base
                class Inner:
                    x = base
            def made():
                return Made
            return Made, made

        Made, made = make(4)
        Dynamic = type("Dynamic", (Made,), {"y": 5})
        def classes():
            for n in range(2):
                yield type(f"C{n}", (), {"n": n})
        First, Second = classes()

        class Outer:
            class Inner:
                def get(self):
                    return "inner"
        inner = Outer.Inner()
        """,
        "thing = Made()",
    )
    shown = book.shown(
        """
        print(Made().get(), made() is Made, Dynamic().y, Dynamic().get(), Made.Inner.x)
        print(First.n, Second.n, [c.n for c in classes()], type(thing) is Made)
        print(inner.get(), type(inner) is Outer.Inner)
        """
    )
    assert shown == ["4 True 5 4 4", "0 1 [0, 1] True", "inner True"]


def test_all_statements_of_python_travel(book: Traveller) -> None:
    book.define(
        """
        import asyncio

        total = 0

        def add(n):
            global total, fresh
            total += n
            fresh = total
            return total

        def kind(x):
            match x:
                case {"a": value}:
                    return value
                case [first, *rest]:
                    return rest
                case int() if (double := x * 2) > 4:
                    return double
            return None

        async def later(x):
            await asyncio.sleep(0)
            return [y async for y in stream(x)]

        async def stream(x):
            for i in range(x):
                yield i

        def generate():
            received = yield 1
            yield received

        square = lambda x: x ** 2
        both = lambda x: square(x) + add(0)
        """,
        "add(2)",
    )
    shown = book.shown(
        """
        print(add(3), total, fresh)
        print(kind({"a": 1}), kind([1, 2, 3]), kind(3), kind(1), asyncio.run(later(3)))
        g = generate()
        print(next(g), g.send(9), square(4), both(3))
        """
    )
    assert shown == ["5 5 5", "1 [2, 3] 6 None [0, 1, 2]", "1 9 16 14"]


def test_a_generic_function_keeps_its_registrations(book: Traveller) -> None:
    book.define(
        """
        import functools

        class Net: pass

        @functools.singledispatch
        def name(x):
            return "object"

        @name.register
        def _(x: int):
            return "int"

        @name.register(Net)
        def name_of_net(x):
            return "net"

        class Namer:
            @functools.singledispatchmethod
            def name(self, x):
                return "object"
            @name.register
            def _(self, x: str):
                return "str"
        """,
        "name.register(list, lambda x: 'list')",
        "Namer.name.register(float, lambda self, x: 'float')",
    )
    shown = book.shown(
        """
        print(name(1.0), name(1), name(Net()), name([]), name_of_net(1))
        print(Namer().name("a"), Namer().name(1), Namer().name(1.0), name.__name__)
        name.register(str, lambda x: "str")
        print(name("a"), name.dispatch(bool)(True))
        """
    )
    assert shown == ["object int net list net", "str object float name", "str int"]


def test_kinds_of_classes_travel(book: Traveller) -> None:
    book.define(
        """
        import abc, typing, functools, collections

        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...

        class Square(Shape):
            def __init__(self, side): self.side = side
            def area(self): return self.side ** 2

        class Point(typing.NamedTuple):
            x: int
            y: int = 2
            def sum(self): return self.x + self.y

        Old = collections.namedtuple("Old", "a b")

        class Options(typing.TypedDict, total=False):
            lr: float

        class Meta(type):
            def __new__(mcs, name, bases, namespace, **words):
                return super().__new__(mcs, name, bases, namespace | words)

        class WithMeta(metaclass=Meta, extra=3):
            pass

        class Sized(typing.Protocol):
            def size(self) -> int: ...

        class Plugin:
            all = []
            def __init_subclass__(cls, **words):
                cls.all.append(cls.__name__)

        class One(Plugin): pass

        class Failure(Exception):
            def __init__(self, code): self.code = code; super().__init__(code)

        power = functools.partial(pow, 2)
        """,
        "point, old, squares, failure = Point(1), Old(1, 2), [Square(3)], Failure(4)",
    )
    shown = book.shown(
        """
        print(squares[0].area(), isinstance(squares[0], Shape), point.sum(), type(point) is Point)
        print(old, type(old) is Old, Options(lr=1.0), WithMeta.extra, type(WithMeta) is Meta)
        print(Plugin.all, failure.code, isinstance(failure, Failure), power(5))
        try:
            Shape()
        except TypeError:
            print("abstract")
        """
    )
    assert shown == [
        "9 True 3 True",
        "Old(a=1, b=2) True {'lr': 1.0} 3 True",
        "['One'] 4 True 32",
        "abstract",
    ]
