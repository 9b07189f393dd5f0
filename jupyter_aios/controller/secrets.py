"""What can be asked of the vault's secrets, and what a launch takes out of it.

Routes are admitted by the gate as everything is; here is what depends on the secret itself: its
class, its shares, and whether it may reach a job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.controller.access import no_such_secret
from jupyter_aios.controller.bundles import pack, unpack
from jupyter_aios.controller.fetching import parse_target
from jupyter_aios.controller.ssh_broker import parse_private_key, public_line
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Action, Resource, authorise
from jupyter_aios.core.safe import (
    SecretBundle,
    SecretPut,
    SecretRow,
    SecretShares,
    unwrapped,
    wrapped,
)
from jupyter_aios.core.secrets import (
    MAX_SECRET_BYTES,
    SECRET_NAME,
    Secret,
    SecretClass,
    SecretInfo,
    SecretUse,
    Share,
)
from jupyter_aios.errors import DeniedError, InputError, StateError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.controller.keeper import Keeper
    from jupyter_aios.core.policy import Actor
    from jupyter_aios.vault import Vault

Note = Callable[[Action, SecretInfo, bool, str], None]
"""Writes one use down: what, of which secret, whether it was allowed, and why."""

SYSTEM = UserId("controller:")
"""Owns what the controller itself keeps in the vault; no user can be named so."""

_RIGHTS = ("use", "read")
_KIND = "secret"


@dataclass(frozen=True)
class Delivery:
    """What one launch gets of the vault."""

    injected: dict[str, Secret]
    """Name → value: the job sees these."""
    brokered: dict[str, SecretInfo]
    """Name → SSH key that the controller signs with for the job."""
    fetched: dict[str, SecretInfo]
    """Name → secret that the controller sends along with the job's requests."""


class Secrets:
    """The use cases. `runs` is the user who runs the controller.

    `last_use` tells from the audit who used a secret last, and when.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        runs: UserId,
        clock: Callable[[], float],
        last_use: Callable[[SecretInfo], tuple[float, str] | None],
    ) -> None:
        self._keeper = keeper
        self._runs = runs
        self._clock = clock
        self._last_use = last_use

    def find(self, owner: UserId, name: str) -> SecretInfo:
        """Return what is known of a secret.

        Raises:
            LockedError: names are locked away too.
            UnknownNameError: there is none; the owner's nearest are the hint.

        """
        if owner == SYSTEM:
            raise no_such_secret(owner, name)
        return self._keeper.open_vault().info(owner, name)

    def rows(self, actor: Actor) -> tuple[SecretRow, ...]:
        """Return the secrets that the actor owns or may use, by owner and name."""
        found = []
        for info in self._keeper.open_vault().list():
            if info.owner == SYSTEM:
                continue
            may = self._may(actor, info)
            if may:
                at, by = self._last_use(info) or (None, "")
                # Who else runs jobs with it is its owner's business.
                found.append(SecretRow(info, may, at, by if may == "own" else ""))
        return tuple(sorted(found, key=lambda row: (row.info.owner, row.info.name)))

    def _may(self, actor: Actor, info: SecretInfo) -> str:
        if info.owner == actor.user:
            return "own"
        for right, action in (("read", Action.SECRET_READ), ("use", Action.SECRET_USE)):
            if authorise(actor, action, resource_of(info)).is_allowed:
                return right
        return ""

    # ---------------------------------------------------------------- changing

    def put(self, owner: UserId, name: str, wanted: SecretPut) -> SecretInfo:
        """Store a secret, or its next version.

        Raises:
            InputError: the name, the value or the target cannot be; all faults at once.
            UnknownNameError: it was to be replaced, and is not there.
            StateError: it was to be new, and is there.

        """
        value = unwrapped(wanted.value)
        faults = _faults(name, wanted, value)
        faults += _target_faults(wanted.target, may_be_here=owner == self._runs)
        if faults:
            raise InputError.of_faults(faults, hint="%aios secret -h")
        vault = self._keeper.open_vault()
        known = next((info for info in vault.list(owner) if info.name == name), None)
        if wanted.must_exist and known is None:
            raise UnknownNameError.among("secret", name, _names(vault, owner))
        if known is not None and not wanted.must_exist:
            raise StateError(
                f"there is a secret {name} already, version {known.version}",
                hint=f"%aios secret rotate {name}",
            )
        kind, target = (known.kind, known.target) if known else (wanted.kind, wanted.target)
        public = ""
        if kind is SecretClass.BROKER:
            passphrase = Secret(wanted.passphrase) if wanted.passphrase else None
            public = public_line(parse_private_key(value, passphrase), f"aios:{name}")
            value = _without_passphrase(value, passphrase)
        return vault.set(owner, name, value, kind, now=self._clock(), public=public, target=target)

    def remove(self, info: SecretInfo) -> None:
        """Forget a secret, all its versions."""
        self._keeper.open_vault().remove(info.owner, info.name)

    def share(self, info: SecretInfo, wanted: SecretShares) -> SecretInfo:
        """Say who else may use it: these, nobody else.

        Raises:
            InputError: a share that is to nobody, or of a right that the class does not have.

        """
        faults = [fault for share in wanted.shares for fault in _share_faults(info, share)]
        if faults:
            raise InputError.of_faults(faults, hint="--with user:eve, --with group:students:read")
        vault = self._keeper.open_vault()
        return vault.share(info.owner, info.name, wanted.shares, now=self._clock())

    # ---------------------------------------------------------------- files of their own

    def export(self, owner: UserId, name: str, wanted: SecretBundle) -> SecretBundle:
        """Return a secret as a small vault under a passphrase of its own."""
        if not wanted.passphrase:
            raise InputError("the file needs a passphrase of its own", hint="it is asked for")
        vault = self._keeper.open_vault()
        info, value = vault.info(owner, name), vault.get(owner, name)
        content = pack(info, value, Secret(wanted.passphrase), now=self._clock())
        return SecretBundle("", content)

    def import_bundle(self, owner: UserId, name: str, wanted: SecretBundle) -> SecretInfo:
        """Take the secret of an exported file into the vault, under this name.

        Raises:
            DeniedError: the passphrase does not open the file.
            InputError: it is no exported file, or what it holds cannot be kept.
            StateError: there is a secret of that name.

        """
        self._keeper.open_vault()
        info, value = unpack(wanted.content, Secret(wanted.passphrase))
        # Looked at like what is typed: whoever made the file has chosen what it says.
        return self.put(owner, name, SecretPut(wrapped(value), info.kind, info.target))

    # ---------------------------------------------------------------- for launches

    def deliver(self, actor: Actor, uses: Sequence[SecretUse], note: Note) -> Delivery:
        """Return what a job of this actor gets, decided once more, now; `note` audits each.

        Raises:
            LockedError: the vault is locked.
            DeniedError: one of them is not for this actor any more.
            UnknownNameError: one of them is gone.

        """
        delivery = Delivery({}, {}, {})
        for use in uses:
            info = self.check_use(actor, use, note)
            if info.kind is SecretClass.BROKER:
                delivery.brokered[use.name] = info
            elif info.kind is SecretClass.DERIVED:
                delivery.fetched[use.name] = info
            else:
                delivery.injected[use.name] = self.value(info)
        return delivery

    def check_use(self, actor: Actor, use: SecretUse, note: Note | None = None) -> SecretInfo:
        """Return the secret where the actor may run a job with it.

        Raises:
            LockedError, UnknownNameError: as `find`.
            DeniedError: policy says no.
            InputError: a variable is asked for a secret that never reaches the job.

        """
        owner = UserId(use.owner) if use.owner else actor.user
        try:
            info = self.find(owner, use.name)
        except UnknownNameError:
            if owner == actor.user:
                raise
            # The nearest names of somebody else are not for the asker.
            raise no_such_secret(owner, use.name) from None
        if use.variable and info.kind is not SecretClass.INJECT:
            msg = f"{use.name} is {info.kind.value}: it never reaches the job, no variable has it"
            raise InputError(msg, hint=f"--secret {use.name}")
        self.check(actor, info, note)
        return info

    def check(self, actor: Actor, info: SecretInfo, note: Note | None = None) -> None:
        """Return where the actor may run a job with the secret.

        What a job sees is read: it asks for `secret:read`.

        Raises:
            DeniedError: policy says no; like an unknown name where it may not even be known.

        """
        action = Action.SECRET_READ if info.kind is SecretClass.INJECT else Action.SECRET_USE
        resource = resource_of(info)
        decision = authorise(actor, action, resource)
        if note is not None:
            note(action, info, decision.is_allowed, decision.reason)
        if decision.is_allowed:
            return
        if not authorise(actor, Action.SECRET_LIST, resource).is_allowed:
            raise no_such_secret(info.owner, info.name)
        raise DeniedError(decision.reason, hint=f"ask {decision.ask}")

    def value(self, info: SecretInfo) -> Secret:
        """Return a value to what carries it: the launch, the broker, the proxy."""
        return self._keeper.open_vault().get(info.owner, info.name)


def resource_of(info: SecretInfo) -> Resource:
    """Return a secret as policy sees it."""
    return Resource(
        kind=_KIND, name=f"{info.owner}/{info.name}", owner=info.owner, shares=info.shares
    )


def _names(vault: Vault, owner: UserId) -> list[str]:
    return [info.name for info in vault.list(owner)]


def _faults(name: str, wanted: SecretPut, value: Secret) -> list[str]:
    checks = [
        (
            SECRET_NAME.fullmatch(name) is not None,
            f"{name[:80]!r}: a letter, then up to 63 letters, digits, '_', '-' or '.'",
        ),
        (len(value) > 0, "the value is empty"),
        (
            len(value) <= MAX_SECRET_BYTES,
            f"the value has {len(value)} bytes, at most {MAX_SECRET_BYTES} can be kept",
        ),
        (
            wanted.must_exist or (wanted.kind is SecretClass.DERIVED) == bool(wanted.target),
            "--target URL and --class derived go together: where the controller may send it",
        ),
    ]
    return [fault for is_good, fault in checks if not is_good]


def _target_faults(target: str, *, may_be_here: bool) -> list[str]:
    """What is wrong with where a secret may be sent.

    An address of the controller's own machine reaches what listens there for nobody else, so it is
    for the person alone who runs the controller.
    """
    if not target:
        return []
    try:
        parsed = parse_target(target)
    except InputError as error:
        return [error.message]
    if not parsed.is_tls and not may_be_here:
        return [f"--target {target[:80]}: begins with https://"]
    return []


def _share_faults(info: SecretInfo, share: Share) -> list[str]:
    kind, _, name = share.to.partition(":")
    found = []
    if kind not in ("user", "group") or not name:
        found.append(f"{share.to!r}: user:NAME or group:NAME")
    if share.right not in _RIGHTS:
        found.append(f"{share.right!r}: one of {', '.join(_RIGHTS)}")
    elif share.right == "read" and info.kind is SecretClass.BROKER:
        found.append(f"{info.name} is an SSH key: it can be used, nobody reads it")
    return found


def _without_passphrase(value: Secret, passphrase: Secret | None) -> Secret:
    """Return a private key as the vault keeps it: the vault is its only lock."""
    if passphrase is None:
        return value
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = parse_private_key(value, passphrase)
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
