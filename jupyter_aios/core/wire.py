"""What crosses the controller's socket: the API's own dataclasses, and a codec for all of them.

The codec turns frozen dataclasses into plain JSON values and back by their annotations. It knows
what entities are made of: dataclasses, enums, tuples, lists, dicts, optionals, NewTypes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from jupyter_aios.core.entities import Job
from jupyter_aios.core.ports import EventBatch
from jupyter_aios.errors import InputError

API = "v1"
VERSION_HEADER = "X-Aios-Version"

T = TypeVar("T")


@dataclass(frozen=True)
class Hello:
    """Who answers on the socket."""

    version: str
    pid: int
    started_at: float
    home: str
    user: str
    jobs_running: int
    jobs_queued: int
    warm: tuple[str, ...]
    """One line per warm process: its interpreter, state and memory."""
    free_bytes: int
    """On the file system of the home."""
    trouble: str = ""
    """What keeps the controller from its work, such as a full disk; empty when nothing does."""
    asker: str = ""
    """Who asked, as the controller knows them; `user` is who runs it."""
    role: str = ""
    """The asker's."""


@dataclass(frozen=True)
class WarmRequest:
    """Ask for a warm process for this interpreter and these variables."""

    interpreter: str
    environment: dict[str, str]


@dataclass(frozen=True)
class BlobQuery:
    """Blobs that a job will need."""

    blobs: tuple[str, ...]


@dataclass(frozen=True)
class PruneRequest:
    """Which finished jobs to remove: older than this, beyond this many of the newest."""

    older_than_s: float | None = None
    keep: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneReport:
    """What `prune` removed."""

    jobs: tuple[str, ...]
    freed_bytes: int


@dataclass(frozen=True)
class EventReply:
    """Events of a job, and the job as it was before they were read.

    So a reply with a terminal job and no events means that everything has been read.
    """

    batch: EventBatch
    job: Job


@dataclass(frozen=True)
class ErrorBody:
    """An `AiosError` on its way through the socket."""

    kind: str
    message: str
    hint: str


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any entity
    """Return `value` as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], data: Any) -> T:  # noqa: ANN401 - parsed JSON
    """Return the `cls` that `to_plain` made `data` of; unknown fields are ignored.

    Ignoring them lets an older client read a newer controller's answers.

    Raises:
        InputError: `data` does not have the shape of `cls`.

    """
    try:
        result: T = _build(cls, data)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        msg = f"not a {getattr(cls, '__name__', cls)}: {error}"
        raise InputError(msg) from error
    return result


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(annotation: Any, data: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - one case per shape
    annotation = getattr(annotation, "__supertype__", annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        inner = next(a for a in typing.get_args(annotation) if a is not type(None))
        return _build(inner, data)
    if origin is tuple:
        args = typing.get_args(annotation)
        if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004
            return tuple(_build(args[0], item) for item in data)
        return tuple(_build(arg, item) for arg, item in zip(args, data, strict=True))
    if origin is list:
        return [_build(typing.get_args(annotation)[0], item) for item in data]
    if origin is not None:  # Mapping and dict
        item_type = typing.get_args(annotation)[1]
        return {key: _build(item_type, item) for key, item in data.items()}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = _hints(annotation)
        known = {f.name for f in dataclasses.fields(annotation) if f.init}
        return annotation(**{k: _build(hints[k], v) for k, v in data.items() if k in known})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation(data)
    if annotation is float and isinstance(data, int):
        return float(data)
    if annotation in (int, float, str, bool) and not isinstance(data, annotation):
        msg = f"{data!r} is not {annotation.__name__}"
        raise TypeError(msg)
    return data
