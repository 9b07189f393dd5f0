"""The vault, rights and audit of the controller, as the client asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from jupyter_aios.core.policy import Member
from jupyter_aios.core.rights import (
    AuditPage,
    AuditQuery,
    FrontStatus,
    FrontWish,
    MemberWish,
    QuotaRow,
    QuotaWish,
    SignedHead,
    TokenIssued,
    TokenRow,
    TokenWish,
)
from jupyter_aios.core.safe import (
    KeyChange,
    KeyKind,
    RecoveryText,
    SecretBundle,
    SecretPut,
    SecretRow,
    SecretShares,
    VaultKey,
    VaultStatus,
)
from jupyter_aios.core.secrets import SecretInfo, Share
from jupyter_aios.core.wire import from_plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Asks(Protocol):
    """Send a request and return the reply's JSON, None where there is none."""

    def __call__(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: object = None,
    ) -> Any:  # noqa: ANN401 - parsed JSON
        """Send it."""


class Safe:
    """Every method raises the AiosError that the controller replied with."""

    def __init__(self, ask: Asks) -> None:
        self._ask = ask

    # ---------------------------------------------------------------- the vault

    def vault(self) -> VaultStatus:
        """Return how the vault is."""
        return from_plain(VaultStatus, self._ask("GET", "/v1/vault"))

    def unlock(self, key: VaultKey) -> VaultStatus:
        """Open the vault; the first key of all makes it."""
        return from_plain(VaultStatus, self._ask("POST", "/v1/vault/unlock", body=key))

    def lock(self) -> VaultStatus:
        """Forget all keys; jobs that run go on."""
        return from_plain(VaultStatus, self._ask("POST", "/v1/vault/lock"))

    def change_key(self, current: VaultKey, new: VaultKey) -> VaultStatus:
        """Replace the keys of one kind by a new one."""
        change = KeyChange(current, new)
        return from_plain(VaultStatus, self._ask("POST", "/v1/vault/change", body=change))

    def new_recovery_key(self, current: VaultKey) -> RecoveryText:
        """Make a fresh recovery key in the place of the last; only this reply has it."""
        change = KeyChange(current, VaultKey(KeyKind.RECOVERY))
        return from_plain(RecoveryText, self._ask("POST", "/v1/vault/recovery", body=change))

    def restore_vault(self) -> VaultStatus:
        """Put the generation before the last in the place of a damaged one."""
        return from_plain(VaultStatus, self._ask("POST", "/v1/vault/restore"))

    # ---------------------------------------------------------------- secrets

    def secrets(self) -> list[SecretRow]:
        """Return the secrets that you own or may use; never a value."""
        return from_plain(list[SecretRow], self._ask("GET", "/v1/secrets"))

    def put_secret(self, name: str, wanted: SecretPut) -> SecretInfo:
        """Store a secret, or the next version of one."""
        return from_plain(SecretInfo, self._ask("PUT", _path("secrets", name), body=wanted))

    def remove_secret(self, owner: str, name: str) -> None:
        """Forget a secret."""
        self._ask("DELETE", _path("secrets", owner, name))

    def share_secret(self, owner: str, name: str, shares: Sequence[Share]) -> SecretInfo:
        """Say who else may use a secret: these, nobody else."""
        path = _path("secrets", owner, name, "shares")
        return from_plain(SecretInfo, self._ask("PUT", path, body=SecretShares(tuple(shares))))

    def export_secret(self, name: str, wanted: SecretBundle) -> SecretBundle:
        """Return one of your secrets as a file under a passphrase of its own."""
        path = _path("secrets", name, "export")
        return from_plain(SecretBundle, self._ask("POST", path, body=wanted))

    def import_secret(self, name: str, wanted: SecretBundle) -> SecretInfo:
        """Take an exported secret into the vault, under this name."""
        path = _path("secrets", name, "import")
        return from_plain(SecretInfo, self._ask("POST", path, body=wanted))

    # ---------------------------------------------------------------- rights

    def members(self) -> list[Member]:
        """Return who has which role and groups."""
        return from_plain(list[Member], self._ask("GET", "/v1/members"))

    def grant(self, user: str, wish: MemberWish) -> Member:
        """Give a person a role and groups."""
        return from_plain(Member, self._ask("PUT", _path("members", user), body=wish))

    def tokens(self) -> list[TokenRow]:
        """Return the tokens that are not over."""
        return from_plain(list[TokenRow], self._ask("GET", "/v1/tokens"))

    def issue_token(self, user: str, wish: TokenWish) -> TokenIssued:
        """Make a token for somebody; only this reply has it."""
        path = _path("members", user, "tokens")
        return from_plain(TokenIssued, self._ask("POST", path, body=wish))

    def revoke_token(self, token_id: str) -> None:
        """End a token now. Idempotent."""
        self._ask("DELETE", _path("tokens", token_id))

    def quotas(self) -> list[QuotaRow]:
        """Return the quotas, and what is used of them."""
        return from_plain(list[QuotaRow], self._ask("GET", "/v1/quotas"))

    def set_quota(self, holder: str, wish: QuotaWish) -> QuotaRow:
        """Set the quota of `user:NAME` or `group:NAME`."""
        return from_plain(QuotaRow, self._ask("PUT", _path("quotas", holder), body=wish))

    def front(self) -> FrontStatus:
        """Return whether others are served, and where."""
        return from_plain(FrontStatus, self._ask("GET", "/v1/front"))

    def open_front(self, wish: FrontWish) -> FrontStatus:
        """Serve others over TLS."""
        return from_plain(FrontStatus, self._ask("POST", "/v1/front", body=wish))

    def close_front(self) -> FrontStatus:
        """Serve nobody else any more."""
        return from_plain(FrontStatus, self._ask("DELETE", "/v1/front"))

    # ---------------------------------------------------------------- audit

    def audit(self, query: AuditQuery) -> AuditPage:
        """Return rows of the audit, and whether its chain holds."""
        asked: dict[str, object] = {
            "user": query.user,
            "action": query.action,
            "resource": query.resource,
            "denied": query.only_denied,
            "limit": query.limit,
            "against": query.against,
        }
        if query.since is not None:
            asked["since"] = query.since
        return from_plain(AuditPage, self._ask("GET", "/v1/audit", asked))

    def audit_head(self) -> SignedHead:
        """Return the signed head of the audit."""
        return from_plain(SignedHead, self._ask("GET", "/v1/audit/head"))


def _path(*parts: str) -> str:
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])
