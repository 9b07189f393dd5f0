"""A job's secrets on their way into its ranks, and what a rank does with them.

They travel in a bundle: memory that has a descriptor and no name, sealed against changes. Warm, it
goes through the zygote's socket to the agent, whose ranks have it by being forked. Cold, it is the
standard input of every process on the way, which is the one descriptor that nobody closes, and a
rank puts /dev/null in its place before any code of the person's runs. So no argument, environment
or file ever holds a value, but the variables that `--secret NAME:VARIABLE` asks for: those are set
in the rank, for itself and what it starts.

Who may read the rank's memory may read its secrets: the person's own processes may, others not.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import resource
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

from jupyter_aios.core.redaction import Redaction
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError, StateError, UnknownNameError
from jupyter_aios.training.processes import IS_LINUX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jupyter_aios.core.entities import SecretUse

_PR_SET_DUMPABLE = 4
_SEALS = (
    sum(getattr(fcntl, f"F_SEAL_{what}") for what in ("SEAL", "SHRINK", "GROW", "WRITE"))
    if IS_LINUX
    else 0
)

_MAPPED = mmap.MAP_PRIVATE if IS_LINUX else mmap.MAP_SHARED
"""Before Linux 6.7 what is sealed cannot be mapped as shared; a Mac maps shared memory only so."""


@dataclass(frozen=True)
class Delivery:
    """What arrived of a job's secrets in an agent or a rank."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)
    redaction: Redaction = field(default_factory=Redaction)

    @classmethod
    def of(cls, secrets: Mapping[str, Secret]) -> Delivery:
        """Return a delivery that also finds its secrets in what is printed."""
        return cls(secrets, Redaction(secrets.items()))


NOTHING = Delivery()


# ------------------------------------------------------------------------------------- the bundle


def chosen(uses: Sequence[SecretUse], secrets: Mapping[str, Secret]) -> Mapping[str, Secret]:
    """Return `secrets`, after a look whether a job that asks for `uses` can have them.

    Raises:
        InputError: one that was not asked for, or a variable that cannot hold its value.

    """
    superfluous = sorted(secrets.keys() - {use.name for use in uses})
    faults = [f"{name} is handed over, and the job does not ask for it" for name in superfluous]
    faults += [
        f"{use.name} holds a zero byte, so the variable {use.variable} cannot have it"
        for use in uses
        if use.variable and use.name in secrets and b"\0" in secrets[use.name].reveal()
    ]
    if faults:
        raise InputError.of_faults(faults, hint="--secret NAME, and aios.secret(NAME, binary=True)")
    return secrets


@contextlib.contextmanager
def bundle(secrets: Mapping[str, Secret]) -> Iterator[int | None]:
    """Give a descriptor of the values while the block hands it on; None where there are none."""
    if not secrets:
        yield None
        return
    encoded = {name: base64.b64encode(one.reveal()).decode() for name, one in secrets.items()}
    descriptor = _hold(json.dumps(encoded).encode())
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _hold(content: bytes) -> int:
    """Return a descriptor of memory that holds `content`; it is closed by an exec."""
    if hasattr(os, "memfd_create"):
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        descriptor = os.memfd_create("aios-secrets", flags)
        os.write(descriptor, content)
        # Whoever gets it later reads what was sent, not what another holder made of it.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return descriptor
    return _hold_shared(content)


def _hold_shared(content: bytes) -> int:
    """Return the like where there is no memfd: shared memory whose name is gone at once.

    Not a pipe: several ranks read it, and it may be larger than a pipe holds.
    """
    import _posixshmem  # type: ignore[import-not-found] # part of the standard library

    name = f"/aios-{randomness.token_hex(8)}"
    descriptor: int = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    _posixshmem.shm_unlink(name)
    os.ftruncate(descriptor, len(content))
    with mmap.mmap(descriptor, len(content)) as memory:
        memory[:] = content
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return descriptor


def open_bundle(descriptor: int) -> Delivery:
    """Return what a bundle holds. A descriptor of anything else (/dev/null) holds nothing."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return NOTHING
    # Mapped rather than read: other ranks share the descriptor, and with it its offset.
    with mmap.mmap(descriptor, size, flags=_MAPPED, prot=mmap.PROT_READ) as memory:
        # The system may round a size up, to whole pages of zeros.
        encoded = json.loads(memory[:].rstrip(b"\0"))
    return Delivery.of({name: Secret(base64.b64decode(text)) for name, text in encoded.items()})


# ------------------------------------------------------------------------------ around the values


def keep_out_of_core_dumps() -> None:
    """Let no crash of this process, or of one that it starts, write memory to a disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A program that the system pipes dumps to is asked whatever the limit says.
    with contextlib.suppress(OSError), open("/proc/self/coredump_filter", "w") as file:  # noqa: PTH123
        file.write("0")


def set_readable(*, is_readable: bool) -> None:
    """Say whether other processes of the same user may look into this one. Linux only."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, int(is_readable), 0, 0, 0)


# ------------------------------------------------------------------------------------ in the rank

_delivery: Delivery | None = None
"""None outside a job. Kept by what is forked from a rank, such as a data loader's worker."""


def enter(delivery: Delivery, uses: Sequence[SecretUse]) -> None:
    """Make the secrets known to `secret`, and set the variables that were asked for."""
    global _delivery  # noqa: PLW0603 - a process is one rank, and user code has no handle to pass
    _delivery = delivery
    for use in uses:
        if use.variable and use.name in delivery.secrets:
            os.environb[use.variable.encode()] = delivery.secrets[use.name].reveal()


def redactor() -> Callable[[str], str]:
    """Return what takes this rank's secrets out of a text."""
    return (_delivery or NOTHING).redaction.redact_text


@overload
def secret(name: str, *, binary: Literal[False] = False) -> str: ...
@overload
def secret(name: str, *, binary: Literal[True]) -> bytes: ...
def secret(name: str, *, binary: bool = False) -> str | bytes:
    """Return a secret that the job was given: `%%aios_train --secret HF_TOKEN`.

    What the job prints of it is taken out of its output; where else it goes is up to the code.

    Args:
        name: as it stands after `--secret`, without its owner.
        binary: return bytes, for a value that is no text.

    Raises:
        UnknownNameError: the job was not given a secret of that name.
        StateError: this is no rank of a job.
        InputError: the value is no text.

    """
    if _delivery is None:
        msg = f"the secret {name} is only there in a job"
        raise StateError(msg, hint=f"%%aios_train --secret {name}")
    if name not in _delivery.secrets:
        if _delivery.secrets:
            raise UnknownNameError.among("secret of this job", name, _delivery.secrets)
        msg = f"this job was given no secrets, and so no {name!r}"
        raise UnknownNameError(msg, hint=f"start it with --secret {name}")
    value = _delivery.secrets[name].reveal()
    if binary:
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        msg = f"the secret {name} is no text"
        raise InputError(msg, hint=f"aios.secret({name!r}, binary=True)") from None
