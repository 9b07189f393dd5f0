"""Where a home has logged in: kept beside its jobs, for its user only."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

LOGIN_FILE = "login.json"
_FINGERPRINT = re.compile(r"(?:sha256:)?((?:[0-9a-f]{2}:?){32})", re.IGNORECASE)


@dataclass(frozen=True)
class Login:
    """Where a controller is, how it is known again, and what it lets in."""

    url: str
    fingerprint: str
    """SHA-256 of its certificate in hexadecimal; empty: an authority of this machine vouches."""
    token: str

    def __repr__(self) -> str:
        return f"Login({self.url!r}, …)"


def read_login(home: Path) -> Login | None:
    """Return the login that a home keeps, if it has one."""
    try:
        data = json.loads((home / LOGIN_FILE).read_text())
        return Login(str(data["url"]), str(data["fingerprint"]), str(data["token"]))
    except (FileNotFoundError, NotADirectoryError):
        return None  # what else is wrong with the home, its user says
    except (OSError, ValueError, LookupError, TypeError) as error:
        # Not from the error: its own text may hold what stands in the file, the token too.
        why = error.strerror if isinstance(error, OSError) else "it is no login"
        msg = f"{home / LOGIN_FILE} cannot be read: {why}"
        raise InputError(msg, hint="%aios login URL") from None


def save_login(home: Path, login: Login) -> Path:
    """Keep a login for later sessions, for this user only; return where."""
    path = home / LOGIN_FILE
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = home / f".{LOGIN_FILE}.{os.getpid()}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(vars(login), file)
    part.replace(path)
    return path


def forget_login(home: Path) -> bool:
    """Forget a home's login; False where there was none."""
    with contextlib.suppress(FileNotFoundError):
        (home / LOGIN_FILE).unlink()
        return True
    return False


def read_fingerprint(text: str) -> str:
    """Return a certificate's fingerprint as lower hexadecimal.

    Raises:
        InputError: it is none.

    Example:
        >>> read_fingerprint("sha256:" + "AB" * 32)[:4]
        'abab'

    """
    found = _FINGERPRINT.fullmatch(text.strip())
    if found is None:
        raise InputError(
            f"--fingerprint {text[:80]!r} is no SHA-256 fingerprint",
            hint="the line that `jupyter aios serve` prints has it",
        )
    return found[1].replace(":", "").lower()
