"""Whether an attempt may start on this machine: its permit, held against what is really here.

A permit is demanded where the plan names the key that it is checked with, or where this machine
does: `HOME/permit.pub` holds the controller's key and, after it, the names of this machine's nodes
if permits for other nodes are to be refused. The file stands above the plan, which comes from
outside: a plan without a permit, or with the key of somebody else, does not start there.

This keeps out who can send plans. It cannot keep out who is the agent's own user already: they may
change a file after it was hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import Failure
from jupyter_aios.core.submission import code_hash, value_blobs
from jupyter_aios.core.wire import to_plain
from jupyter_aios.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from jupyter_aios.core.entities import Resources, UserId
    from jupyter_aios.core.ports import LaunchPlan

KEY_FILE = "permit.pub"
USED_FOLDER = "permits"
"""Beside the jobs: an empty file per permit that was used, named by its id."""
DENIED = "Denied"
"""The kind of the failure of an attempt that was not admitted."""
REMEMBERED_S = 3600.0
"""Thirty times as long as a permit is good: a clock that is set back must not revive one."""

_CHUNK_BYTES = 2**20
_OUTSIDE = frozenset({"permit", "permit_key"})


def permitted(
    plan: LaunchPlan, seed: bytes, *, user: UserId, resources: Resources, now: float
) -> LaunchPlan:
    """Return the plan with a permit to start it; for the controller, which has the seed.

    Args:
        plan: from an engine, whole; a change after this is refused by the agent.
        seed: of the key that signs.
        user: for whom it starts.
        resources: of all its ranks together.
        now: seconds since the epoch.

    """
    from jupyter_aios.vault.permits import MAX_AGE_S, Permit, issue, public_key

    permit = Permit(
        id=os.urandom(16).hex(),
        user=user,
        job_id=plan.job_id,
        attempt=plan.attempt,
        node=audience_of(plan),
        code_hash=code_hash(plan.code),
        plan_hash=plan_hash(to_plain(plan)),
        resources=resources,
        issued_at=now,
        expires_at=now + MAX_AGE_S,
    )
    return replace(plan, permit=issue(seed, permit), permit_key=public_key(seed))


def audience_of(plan: LaunchPlan) -> str:
    """Return the nodes of a plan as a permit names them: each once, joined by commas."""
    return ",".join(dict.fromkeys(item.node for item in plan.ranks))


def plan_hash(plain: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan as it is written, its permit left out.

    Of the plain data rather than of a LaunchPlan: fields that an older agent does not know count.
    """
    content = {name: value for name, value in plain.items() if name not in _OUTSIDE}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def why_denied(
    plain: Mapping[str, Any], plan: LaunchPlan, folder: Path, now: float | None = None
) -> Failure | None:
    """Return why the attempt in `folder` must not start; None where it may, or nobody asks.

    `plain` is what `plan` was made of. Where it may, its permit is used up by this.
    """
    home = folder.parents[3]  # HOME/jobs/JOB_ID/attempts/NUMBER
    try:
        key = _key_for(plan, home)
        if key:
            _admit(plain, plan, key, home / USED_FOLDER, time.time() if now is None else now)
    except (DeniedError, OSError) as error:
        # What cannot be checked is not admitted: a full disk remembers no permit.
        message = f"this machine does not admit the attempt: {error}"
        return Failure(rank=None, kind=DENIED, message=message)
    return None


def _key_for(plan: LaunchPlan, home: Path) -> str:
    """Return the key that permits are checked with here, or an empty string."""
    path = home / KEY_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return plan.permit_key
    with os.fdopen(descriptor, errors="replace") as file:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            told = f"{stat.filemode(status.st_mode)} of user {status.st_uid}"
            raise DeniedError(f"others can change {path} ({told})", hint=f"chmod 644 '{path}'")
        trusted, *nodes = file.read().split() or [""]
    if not trusted:
        raise DeniedError(f"{path} holds no key", hint="add this machine again")
    if plan.permit_key != trusted:
        found = plan.permit_key[:12] + "…" if plan.permit_key else "none"
        raise DeniedError(f"{path} trusts the key {trusted[:12]}…, the plan comes with {found}")
    strangers = sorted({str(item.node) for item in plan.ranks} - set(nodes)) if nodes else []
    if strangers:
        raise DeniedError(f"the plan is for {', '.join(strangers)}, here is {', '.join(nodes)}")
    return trusted


def _admit(
    plain: Mapping[str, Any], plan: LaunchPlan, key: str, used_folder: Path, now: float
) -> None:
    # Here, not above: whoever needs no permits does not wait for cryptography.
    from jupyter_aios.vault.permits import check

    used_folder.mkdir(mode=0o700, exist_ok=True)
    permit = check(
        plan.permit,
        key,
        audience=audience_of(plan),
        job_id=plan.job_id,
        attempt=plan.attempt,
        code_hash=code_hash(plan.code),
        plan_hash=plan_hash(plain),
        now=now,
        seen=_used(used_folder, now),
    )
    _compare_files(plan)
    _use_up(used_folder, permit.id)


def _used(folder: Path, now: float) -> Container[str]:
    """Return the ids of permits that were used lately, and forget older ones."""
    lately = set()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another agent has swept it
            if now - path.stat().st_mtime > REMEMBERED_S:
                path.unlink()
            else:
                lately.add(path.name)
    return lately


def _use_up(folder: Path, permit_id: str) -> None:
    """Take the permit. Of several agents that have the same one, one gets through."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.close(os.open(folder / permit_id, flags, 0o600))
    except FileExistsError:
        raise DeniedError(f"the permit {permit_id} was used before") from None
    # A power cut and a fast start must not make it good again.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compare_files(plan: LaunchPlan) -> None:
    """Insist that the files which will run are those that the code names by their hashes."""
    folder = Path(plan.folder)
    expected = [(folder / "code" / file.path, file.blob) for file in plan.code.files]
    expected += [(folder / "values" / blob, blob) for blob in value_blobs(plan.code)]
    for path, blob in expected:
        found = _hash_of(path)
        if found != blob:
            raise DeniedError(f"{path} has been changed: {found[:12]}… instead of {blob[:12]}…")


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
