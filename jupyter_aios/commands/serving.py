"""`jupyter aios serve`: let a team use this controller, over TLS and with tokens."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from jupyter_aios.commands.asking import opened
from jupyter_aios.core.rights import FrontWish
from jupyter_aios.errors import AiosError, InputError
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    import argparse

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place

PORT = 8443
_LOOK_EVERY_S = 2.0


def add_serve(parser: Parser) -> None:
    """Declare the arguments of `serve`."""
    parser.add_argument("--tls", action="store_true", help="the only way so far, so it is wanted")
    parser.add_argument("--host", metavar="ADDRESS", default="0.0.0.0", help="where to listen")  # noqa: S104 - serving others is what it is for
    parser.add_argument("--port", metavar="N", default=str(PORT), help=f"default {PORT}")
    parser.add_argument(
        "--name", metavar="HOST", action="append", default=[],
        help="what this machine is called from outside (default: what it calls itself)",
    )  # fmt: skip


def serve(arguments: argparse.Namespace, place: Place) -> Text:
    """Serve others until it is interrupted. Everything goes on for this user as before."""
    from jupyter_aios.training.secrets import set_readable

    if not arguments.tls:
        raise InputError("without TLS tokens would travel in the clear", hint="serve --tls")
    if not arguments.port.isdecimal():
        raise InputError(f"--port {arguments.port}: a whole number", hint=f"--port {PORT}")
    wish = FrontWish(arguments.host, int(arguments.port), tuple(arguments.name))
    # Others' jobs run under this account, and it stays for days: what is typed here is not theirs.
    set_readable(is_readable=False)
    safe = place.client.safe
    opened(place)
    front = safe.open_front(wish)
    _say(
        f"serving at {front.url}; people log in with\n"
        f"    %aios login {front.url} --fingerprint {front.fingerprint}\n"
        f"and a token: jupyter aios token issue USER --to FILE. Ctrl-C ends it."
    )
    if front.warning:
        _say(f"warning: {front.warning}: unlock it by a typed passphrase instead")
    wish = FrontWish(wish.host, front.port, wish.names)
    try:
        while True:
            time.sleep(_LOOK_EVERY_S)
            _look(place, wish)
    except KeyboardInterrupt:
        safe.close_front()
        return Text("nobody else is served any more; jobs go on")


def _look(place: Place, wish: FrontWish) -> None:
    """Serve again where the controller was replaced meanwhile and its vault is open."""
    safe = place.client.safe
    try:
        if not safe.front().is_open:
            safe.open_front(wish)
            _say("the controller was replaced; serving again")
    except AiosError as error:
        _say(f"not served now: {error.message}; {error.hint}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
