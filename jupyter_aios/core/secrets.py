"""A secret's value, which shows itself to nobody, and what may be known of a secret."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from jupyter_aios.core.entities import SecretUse as SecretUse  # noqa: PLC0414 - part of a JobSpec
from jupyter_aios.core.entities import UserId

SECRET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
MAX_SECRET_BYTES = 64 * 1024


class Secret:
    """Bytes that neither print, format, pickle nor become JSON; `reveal` is the only way out.

    Python cannot wipe what it once held: a copy may stay in freed memory until it is reused.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Return the value. Whoever calls this answers for where it goes."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret is no key: its hash would tell of it")

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a secret cannot be formatted into a text")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


class SecretClass(str, Enum):
    """How a secret reaches a job."""

    BROKER = "broker"
    """Never: the controller uses it for the job. SSH keys."""
    DERIVED = "derived"
    """As something short-lived that was made of it, or by a request that the controller sends."""
    INJECT = "inject"
    """As it is. So whoever may run a job with it may read it."""


@dataclass(frozen=True)
class Share:
    """Who else may use a secret (`use`), or also see it (`read`)."""

    to: str
    """`user:NAME` or `group:NAME`."""
    right: str = "use"


@dataclass(frozen=True)
class SecretInfo:
    """Everything about a secret but its value."""

    name: str
    owner: UserId
    kind: SecretClass
    version: int
    created_at: float
    changed_at: float
    size_bytes: int
    shares: tuple[Share, ...] = ()
    public: str = ""
    """Of an SSH key: the public key as one line of authorized_keys."""
    target: str = ""
    """Of a derived secret: the URL prefix that the controller may send it to."""
