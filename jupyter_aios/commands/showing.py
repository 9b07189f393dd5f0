"""What `aios.safe()` and `%aios secret list` return: secrets and rights that draw themselves."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client
from jupyter_aios.commands.place import is_live
from jupyter_aios.widgets.safe import text as drawn
from jupyter_aios.widgets.safe.reading import SafeState, read_safe
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.widgets.safe.rows import ShownSecret
    from jupyter_aios.widgets.safe.view import SafeView
    from jupyter_aios.widgets.text.table import Table


class SafeAnswer:
    """Secrets, rights and denials as they were read; in a notebook a view, elsewhere text.

    It has the secrets as rows: `len`, iteration and indices are those of `table("secrets")`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen = self._read()

    def _read(self) -> SafeState:
        return read_safe(self._client, time.time())

    def table(self, of: str = "secrets") -> Table[Any]:
        """Return rows for each of the `secrets`, `members` or `denials`.

        Raises:
            UnknownNameError: there is no such table.

        """
        return drawn.table(self._seen, of)

    def text(self) -> Text:
        """Return what a terminal shows."""
        return Text(drawn.text(self._seen))

    def view(self) -> SafeView:
        """Return the view as a widget, for a box of ipywidgets; the same one every time."""
        return self._widget

    @cached_property
    def _widget(self) -> SafeView:
        from jupyter_aios.widgets.safe.view import SafeView

        return SafeView(self._read, self._seen)

    def __iter__(self) -> Iterator[ShownSecret]:
        return iter(self.table())

    def __len__(self) -> int:
        return len(self.table())

    def __getitem__(self, index: int) -> ShownSecret:
        row: ShownSecret = self.table()[index]
        return row

    def __repr__(self) -> str:
        return str(self.text())

    def _ipython_display_(self) -> None:
        if not is_live(""):
            raise NotImplementedError  # IPython then shows the text
        self.view().show()


def safe() -> SafeAnswer:
    """Return what is in the vault, who may what, and what was denied lately; never a value.

    In a notebook it draws itself, with a button that reads it anew.

    Raises:
        DeniedError: guests may not see that.
        UnavailableError: the controller does not answer.

    Example:
        aios.safe().table("members")

    """
    return SafeAnswer(Client())
