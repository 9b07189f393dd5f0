"""Names of curves and lengths of loops, read from code."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.training.curves import sources
from jupyter_aios.training.curves.loops import Rounds, rounds_of
from jupyter_aios.training.curves.sameness import SameBatches

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("loss", "loss"),
        ("self.loss", "loss"),
        ("loss / 4", "loss"),
        ("0.5 * loss", "loss"),
        ("scaler.scale(loss / steps)", "loss"),
        ("losses.mean()", "losses"),
        ("F.cross_entropy(model(x), y)", "cross_entropy"),
        ("fit + 0.1 * size", "fit + 0.1 * size"),
        ("losses['fit']", "losses['fit']"),
    ],
)
def test_a_curve_is_called_as_its_expression(expression: str, name: str) -> None:
    assert sources.name_of(ast.parse(expression, mode="eval").body) == name


def names_in(code: str) -> list[list[str]]:
    tree = ast.parse(code)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and sources.is_backward(n)]
    calls.sort(key=lambda call: call.lineno)
    return [sources.series_names(call, tree) for call in calls]


def test_the_only_backward_of_a_file_is_the_loss() -> None:
    assert names_in("total.backward()") == [["loss"]]
    assert names_in("accelerator.backward(total)") == [["loss"]]
    assert names_in("torch.autograd.backward([a, b])") == [["a", "b"]]


def test_several_are_told_apart_by_expression_function_or_line() -> None:
    assert names_in("a.backward()\nb.backward()") == [["a"], ["b"]]
    assert names_in("loss.backward()\nloss.backward()") == [["loss (line 1)"], ["loss (line 2)"]]
    functions = "def f():\n loss.backward()\ndef g():\n loss.backward()"
    assert names_in(functions) == [["loss (f)"], ["loss (g)"]]


def rounds_in(code: str, tmp_path: Path, **names: object) -> Rounds:
    """Return what is found where `code` calls here()."""
    path = tmp_path / f"code{len(list(tmp_path.iterdir()))}.py"
    path.write_text(code)
    found: list[Rounds] = []

    def here() -> None:
        found.append(rounds_of(sys._getframe(1)))  # noqa: SLF001

    exec(compile(code, str(path), "exec"), {"here": here, **names})  # noqa: S102
    return found[0]


class Sized:
    def __init__(self) -> None:
        self.data = [1, 2, 3]

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        return range(7)[index]


@pytest.mark.parametrize(
    ("code", "count", "how"),
    [
        ("for epoch in range(3):\n  for batch in data:\n    here()", 21, "3 epochs × 7 batches"),
        ("for i, batch in enumerate(data): here()", 7, "7 batches"),
        ("for x, y in zip(data, data.data): here()", 3, "3 batches"),
        ("n = 10\nfor step in range(2, n * 2, 3): here()", 6, "6 steps"),
        ("for step in range(len(data) // 2): here()", 3, "3 steps"),
        ("def f():\n  for s in 'ab': here()\nfor run in [1, 2]: f()", 4, "2 runs × 2 rounds"),
        ("for i in range(2):\n  def f(): here()\n  f()", 2, "2 rounds"),
        ("for i in range(2):\n  if i + 1:\n    try: here()\n    finally: pass", 2, "2 rounds"),
        ("for i in range(2): pass\nelse:\n  for j in range(5): here()", 5, "5 rounds"),
        ("here()", 0, "no for loop goes around backward()"),
        ("while True:\n  here()\n  break", 0, "the while loop at "),
        ("for x in iter([1]):\n  here()\n  break", 1, "1 rounds"),
        ("for x in (y for y in 'ab'):\n  here()", 0, "the length of (y for y in 'ab') at "),
        ("for x in data.endless():\n  here()\n  break", 0, "the length of data.endless() at "),
    ],
)
def test_rounds_are_read_from_the_loops_around(
    code: str, count: int, how: str, tmp_path: Path
) -> None:
    data: Any = Sized()
    data.endless = lambda: iter(int, 1)
    rounds = rounds_in(code, tmp_path, data=data)
    assert rounds.count == count
    assert rounds.how.startswith(how)


def test_pieces_of_a_tensor_are_counted_and_of_a_text_not(tmp_path: Path) -> None:
    import torch

    names = {"torch": torch, "x": torch.zeros(10, 2)}
    assert rounds_in("for part in x.split(4): here()", tmp_path, **names).count == 3
    code = "for part in torch.randperm(len(x)).split(3): here()"
    assert rounds_in(code, tmp_path, **names).count == 4
    assert rounds_in("for w in 'a b'.split(' '): here()", tmp_path).count == 0


def test_no_property_is_run_to_find_a_length(tmp_path: Path) -> None:
    class Holder:
        @property
        def data(self) -> list[int]:
            if sys._getframe(1).f_code.co_filename.endswith("loops.py"):  # noqa: SLF001
                pytest.fail("a property was run")
            return [1]

    assert rounds_in("for x in holder.data: here()", tmp_path, holder=Holder()).count == 0


def test_steps_of_an_incomplete_last_group_are_counted() -> None:
    assert Rounds(20, "", innermost=10).steps(4) == 6
    assert Rounds(20, "", innermost=10).steps(1) == 20
    assert Rounds(0, "").steps(4) == 0


def test_ranks_are_compared_once_all_have_come() -> None:
    same = SameBatches(3)
    assert same.note(0, ["a", "b"]) == ""
    assert same.note(2, ["a", "b"]) == ""
    assert same.note(1, ["a", "b"]).startswith("all 3 ranks see identical batches")
    assert same.note(1, ["a", "b"]) == ""
    other = SameBatches(2)
    assert other.note(0, ["a", "b"]) + other.note(1, ["a", "c"]) == ""
