"""What a job left for `pull`, fetched and loaded: pickles, and weights without any pickle code."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.units import format_bytes
from jupyter_aios.errors import CapacityError, DeniedError, InputError, ShippingError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from jupyter_aios.client import Client
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.ports import Result

LIMIT_BYTES = 2 * 2**30
_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before the names of weights."""


@dataclass(frozen=True)
class Fetched:
    """One result on this side."""

    name: str
    kind: str
    size_bytes: int
    path: Path

    def state(self) -> dict[str, Any]:
        """Return the weights; only tensors and plain values are loaded, no code runs."""
        import torch

        loaded: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        return loaded


def fetch(
    client: Client,
    job: Job,
    folder: Path,
    *,
    names: Sequence[str] = (),
    limit_bytes: int = LIMIT_BYTES,
    prefix: str = "%aios",
) -> list[Fetched]:
    """Bring results to `folder`; without names, all that the job kept.

    Raises:
        InputError: a name that the job did not keep.
        ShippingError: rank 0 could not keep a named one; says why.
        CapacityError: one is larger than the limit; nothing was fetched.

    """
    results = client.results(str(job.id))
    kept = {result.name: result for result in results}
    unknown = [name for name in names if name not in kept]
    if unknown:
        listed = ", ".join(sorted(kept)) or "nothing"
        hint = f"it kept {listed}; give --pull {unknown[0]} when it is started"
        raise InputError(f"{job.name} kept no {' and no '.join(unknown)}", hint=hint)
    chosen = [kept[name] for name in names] if names else [r for r in results if not r.error]
    _check(job, chosen, limit_bytes, prefix)
    if any(result.kind == "pickle" for result in chosen):
        check_owner(client, job)
    fetched = []
    for result in chosen:
        path = folder / f"{result.name}.{result.kind}"
        client.fetch_result(str(job.id), result.name, path)
        fetched.append(Fetched(result.name, result.kind, result.size_bytes, path))
    return fetched


def _check(job: Job, chosen: Sequence[Result], limit_bytes: int, prefix: str) -> None:
    for result in chosen:
        if result.error:
            raise ShippingError(f"{result.name} of {job.name} was not kept: {result.error}")
        if result.size_bytes > limit_bytes:
            raise CapacityError(
                f"{result.name} is {format_bytes(result.size_bytes)},"
                f" the limit is {format_bytes(limit_bytes)}",
                hint=f"{prefix} pull {job.name} {result.name} --limit {result.size_bytes}",
            )


def check_owner(client: Client, job: Job) -> None:
    """A pickle runs code when it is loaded: whose code it is decides."""
    user = client.hello().user
    if job.owner != user:
        raise DeniedError(
            f"{job.name} is {job.owner}'s, and pickles run code when they are loaded",
            hint="ask its owner for the weights alone",
        )


def fetch_state(client: Client, key: str, name: str, folder: Path) -> dict[str, Any]:
    """Return the weights of one result."""
    path = folder / "weights"
    client.fetch_result(key, name, path)
    return Fetched(name, "state", path.stat().st_size, path).state()


def load_pickle(item: Fetched) -> Any:  # noqa: ANN401 - whatever the rank had
    """Return the value of a pickle of one's own job.

    Raises:
        ShippingError: it cannot be loaded here.

    """
    try:
        with item.path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - `fetch` has checked whose it is
    except Exception as error:
        raise ShippingError(
            f"{item.name} cannot be loaded here: {type(error).__name__}: {error}",
            hint="run the cells that define its classes first",
        ) from error


def loaded(item: Fetched, namespace: Mapping[str, Any]) -> tuple[Fetched, Any]:
    """Return a result with its value: weights under the names of the notebook's own module."""
    if item.kind == "pickle":
        return item, load_pickle(item)
    state = item.state()
    own = namespace.get(item.name)
    return item, matched_state(item.name, own, state) if _is_module(own) else state


def _is_module(value: object) -> bool:
    return hasattr(value, "load_state_dict") and hasattr(value, "state_dict")


def bind(namespace: MutableMapping[str, Any], item: Fetched, value: Any) -> str:  # noqa: ANN401
    """Make a value the notebook's, or load it into its module; return a line on that."""
    size = format_bytes(item.size_bytes)
    own: Any = namespace.get(item.name)
    if item.kind == "state" and _is_module(own):
        own.load_state_dict(value)
        return f"{item.name}: {len(value)} weights loaded into the notebook's own ({size})"
    namespace[item.name] = value
    what = f"state_dict of {len(value)} weights" if item.kind == "state" else type(value).__name__
    return f"{item.name}: {what} ({size})"


def matched_state(name: str, module: Any, state: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return `state` under the names of the module's own weights.

    Raises:
        InputError: names or shapes differ; the first differences are told.

    """
    own = module.state_dict()
    by_bare = {_bare(key): key for key in own}
    found = {by_bare.get(_bare(key), key): value for key, value in state.items()}
    faults = [f"{key} is missing in the job's" for key in own if key not in found]
    faults += [f"{key} is not in the notebook's" for key in found if key not in own]
    for key in own:
        mine, theirs = getattr(own[key], "shape", None), getattr(found.get(key), "shape", None)
        if key in found and mine != theirs:
            faults.append(f"{key} is {_shape(mine)} here and {_shape(theirs)} in the job")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""  # noqa: PLR2004
        told = "; ".join(faults[:3]) + more
        raise InputError(
            f"the weights of {name} do not fit the notebook's {name}: {told}",
            hint=f"del {name}, and pull it as a plain state_dict",
        )
    return found


def _bare(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return key


def _shape(shape: Any) -> str:  # noqa: ANN401 - torch.Size or None
    return "x".join(map(str, shape)) or "a number" if shape is not None else "no tensor"
