"""Live functions whose name and cell are right and whose code is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training.packing.bundle import pack_cell
from tests.notebook import output_of

if TYPE_CHECKING:
    from tests.notebook import Notebook


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("def f():\n    return 1\ndef g():\n    return 2\nf.__code__ = g.__code__", "2"),
        ("def f():\n    return 1\nf.__code__ = f.__code__.replace(co_consts=(None, 3))", "3"),
    ],
)
def test_code_that_was_replaced_within_its_cell_travels_by_value(
    notebook: Notebook, cell: str, expected: str
) -> None:
    notebook.run(cell)
    packed = pack_cell("print(f())", notebook.names, name="Cell In[9]", first_line=2)
    (entry,) = (entry for entry in packed.code.manifest if entry.name == "f")
    assert (entry.how, entry.why) == ("value", "its code was changed since Cell In[1]")
    assert output_of(packed, notebook.folder / "rank") == expected
