"""A parser for both skins: no abbreviations, no exit, errors of one line with the nearest name."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = frozenset({"-h", "--help"})
_NUMBER = re.compile(r"-[0-9.]+")


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print, and knows its own options."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this")

    def error(self, message: str) -> NoReturn:
        """Raise instead of exit: a notebook stays."""
        raise InputError(message.replace("argument ", "", 1), hint=f"{self.prog} -h")

    def options(self) -> dict[str, argparse.Action]:
        """Return option → its action, for completion and for the nearest name."""
        return {text: action for action in self._actions for text in action.option_strings}

    def read(self, tokens: Sequence[str]) -> argparse.Namespace:
        """Return the parsed tokens; `help` is true where they ask for help, whatever else is there.

        Raises:
            UnknownNameError: an option that does not exist; the nearest is offered.
            InputError: an option without its value, a missing or superfluous argument.

        """
        if HELP & set(tokens):
            return argparse.Namespace(help=True)
        options = self.options()
        for token in tokens:
            name = token.partition("=")[0]
            if name.startswith("-") and name not in options and not _NUMBER.fullmatch(token):
                raise UnknownNameError.among(f"option of {self.prog}", name, options)
        parsed, rest = self.parse_known_args(list(tokens))
        if rest:
            self.error(f"more than expected: {' '.join(rest)}")
        return parsed


def names(texts: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names in `--push a,b --push c`, each once.

    Example:
        >>> names(["a,b", "c", "a"])
        ('a', 'b', 'c')

    """
    found = (part.strip() for text in texts or () for part in text.split(","))
    return tuple(dict.fromkeys(part for part in found if part))
