"""`aios.fetch`: a request that the controller sends with a secret that this rank never sees.

What is at the socket is plain HTTP, so any client that speaks Unix sockets does as well::

    curl --unix-socket "$AIOS_FETCH_SOCKET" http://aios/HUB/models/x.bin -o x.bin
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, overload
from urllib.parse import quote

from jupyter_aios.core.secrets import SECRET_NAME
from jupyter_aios.errors import AiosError, InputError, StateError, StorageError, UnavailableError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator, Mapping

SOCKET_VARIABLE = "AIOS_FETCH_SOCKET"
"""The path of the attempt's socket; where it lies is no secret."""

ERROR_HEADER = "Aios-Error"
"""Names the kind of an error where it is the controller's own; a target's is never passed."""
_SILENCE_S = 330.0
"""A little longer than the controller waits for a target, so that its account arrives."""
_SHOWN = 300
_URL_CHARACTERS = "/%?&=:@!$'()*+,;~"


@overload
def fetch(
    path: str,
    *,
    secret: str,
    method: str = "GET",
    data: bytes | BinaryIO | None = None,
    headers: Mapping[str, str] | None = None,
    to: None = None,
) -> bytes: ...


@overload
def fetch(
    path: str,
    *,
    secret: str,
    method: str = "GET",
    data: bytes | BinaryIO | None = None,
    headers: Mapping[str, str] | None = None,
    to: str | os.PathLike[str],
) -> Path: ...


def fetch(
    path: str,
    *,
    secret: str,
    method: str = "GET",
    data: bytes | BinaryIO | None = None,
    headers: Mapping[str, str] | None = None,
    to: str | os.PathLike[str] | None = None,
) -> bytes | Path:
    """Return what lies at `path` below the target of a secret, or the file that it was put into.

    The controller sends the request with the secret (`Authorization: Bearer …`); the job needs
    `--secret NAME`. Redirects are not followed: their server is not the secret's.

    Args:
        path: below the secret's target, with a query if need be: "models/x.bin?rev=2".
        secret: its name.
        method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
        data: the body: bytes, or an open file that is sent as it is read; 1 GiB at most.
        headers: Authorization, Cookie and Host among them are dropped.
        to: a file to stream into; it is whole, or as it was before.

    Raises:
        StateError: this is no rank of a job that may fetch.
        InputError: the request cannot be meant, or is answered with a status of 300 to 499.
        DeniedError: the secret is not for this job any more.
        LockedError: the vault is locked.
        UnavailableError: controller or server do not answer, or with a status from 500 on.
        StorageError: the file cannot be written.

    Example:
        >>> fetch("models/x.bin", secret="HUB")
        Traceback (most recent call last):
        jupyter_aios.errors.StateError: nothing sends requests for this process
        hint: %%aios_train --secret HUB, and fetch in the cell

    """
    place = _place(path, secret)
    socket_path = os.environ.get(SOCKET_VARIABLE, "")
    if not socket_path:
        raise StateError(
            "nothing sends requests for this process",
            hint=f"%%aios_train --secret {secret}, and fetch in the cell",
        )
    what = f"{method} {path.partition('?')[0][:80]} with {secret}"
    with _asked(socket_path, method, place, data, headers or {}, what=what) as reply:
        _raise_error(reply, what)
        if to is None:
            return reply.read()
        return _stream_into(Path(to), reply)


def _place(path: str, secret: str) -> str:
    """Return the request's target at the socket."""
    faults = []
    if not SECRET_NAME.fullmatch(secret):
        faults.append(f"{secret[:80]!r} is no secret's name")
    if "://" in path.partition("?")[0]:
        faults.append("a whole URL: the secret's target says where it goes")
    if faults:
        raise InputError.of_faults(faults, hint='aios.fetch("models/x.bin", secret="HUB")')
    # Spaces and letters beyond ASCII are typed as they are; what is a URL already stays one.
    return f"/{secret}/{quote(path.removeprefix('/'), safe=_URL_CHARACTERS)}"


@contextlib.contextmanager
def _asked(
    socket_path: str,
    method: str,
    place: str,
    data: bytes | BinaryIO | None,
    headers: Mapping[str, str],
    *,
    what: str,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request, and give what is answered, as long as the block reads it."""
    import http.client
    import socket

    with contextlib.closing(http.client.HTTPConnection("aios")) as connection:
        try:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(_SILENCE_S)
            connection.sock.connect(socket_path)
            # Who refuses a body answers before all of it is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, place, body=data, headers=dict(headers))
            with connection.getresponse() as reply:
                yield reply
        except ValueError as error:
            # http.client: a line end in a header or the method.
            raise InputError(f"{what} is no request: {error}", hint="see the headers") from error
        except http.client.IncompleteRead as error:
            raise UnavailableError(f"{what}: the answer broke off", hint="try again") from error
        except TimeoutError as error:
            msg = f"{what}: no answer for {_SILENCE_S:.0f} s"
            raise UnavailableError(msg, hint="try again") from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"{what}: the controller does not answer ({type(error).__name__})",
                hint="%aios in the notebook starts it again",
            ) from error


def _raise_error(reply: http.client.HTTPResponse, what: str) -> None:
    """Return where the reply is a success.

    Raises:
        AiosError: what the controller raised, as the same class, or what the server answered.

    """
    if reply.status < 300:  # noqa: PLR2004 - HTTP's successes
        return
    content = reply.read(64 * 1024)
    if reply.getheader(ERROR_HEADER):
        raise _told(content, what)
    if reply.status < 400:  # noqa: PLR2004 - HTTP's redirects
        where = (reply.getheader("Location") or "nowhere").partition("?")[0]
        raise InputError(
            f"{what}: {reply.status}, moved to {where[:_SHOWN]}",
            hint="the secret does not go there; curl -sI --unix-socket"
            f' "${SOCKET_VARIABLE}" shows the whole address, to be fetched without it',
        )
    said = content.decode(errors="replace")[:_SHOWN]
    message = f"{what}: {reply.status} {reply.reason}" + (f": {said}" if said else "")
    if reply.status < 500:  # noqa: PLR2004 - HTTP's faults of who asks
        raise InputError(message, hint="see what the server says; aios.fetch(path, headers=…)")
    raise UnavailableError(message, hint="try again")


def _told(content: bytes, what: str) -> AiosError:
    import json

    from jupyter_aios.core.wire import ErrorBody, from_plain

    try:
        told = from_plain(ErrorBody, json.loads(content))
    except (ValueError, AiosError):
        return UnavailableError(f"{what}: the controller refused", hint="see controller.log")
    return AiosError.from_kind(told.kind, f"{what}: {told.message}", told.hint)


def _stream_into(path: Path, reply: http.client.HTTPResponse) -> Path:
    """Write the answer to a file; it is whole, or as it was before."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(reply, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)):
            raise _unwritable(path, error) from error
        raise
    return path


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror}", hint="aios.fetch(…, to=…)")
