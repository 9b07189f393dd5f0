"""The routes of the vault, its secrets, members, tokens, quotas and the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query, Request, Response

# FastAPI reads the annotations of endpoints while running: none of these may move below.
from jupyter_aios.controller.rights import Rights
from jupyter_aios.controller.routes import reply
from jupyter_aios.controller.secrets import Secrets
from jupyter_aios.controller.tokens import TLS_PREFIX
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Actor, Member
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
    RecoveryText,
    SecretBundle,
    SecretPut,
    SecretRow,
    SecretShares,
    VaultKey,
    VaultStatus,
)
from jupyter_aios.core.secrets import SecretInfo

if TYPE_CHECKING:
    from collections.abc import Callable


async def _secrets(request: Request) -> Secrets:
    secrets: Secrets = request.app.state.secrets
    return secrets


async def _rights(request: Request) -> Rights:
    rights: Rights = request.app.state.rights
    return rights


async def _actor(request: Request) -> Actor:
    actor: Actor = request.state.admission.actor
    return actor


async def _secret(request: Request, owner: str, name: str) -> SecretInfo:
    """The secret that the gate has found."""
    del owner, name
    info: SecretInfo = request.state.admission.secret
    return info


UseSecrets = Annotated[Secrets, Depends(_secrets)]
UseRights = Annotated[Rights, Depends(_rights)]
Asking = Annotated[Actor, Depends(_actor)]
Found = Annotated[SecretInfo, Depends(_secret)]


# -------------------------------------------------------------------- the vault


def vault(request: Request) -> Response:
    """How the vault is."""
    return reply(request.app.state.keeper.status())


def unlock(key: VaultKey, request: Request) -> Response:
    """Open the vault; the first key of all makes it."""
    return reply(request.app.state.keeper.unlock(key))


def lock(request: Request) -> Response:
    """Forget all keys; jobs that run go on."""
    return reply(request.app.state.keeper.lock())


def change_key(change: KeyChange, request: Request) -> Response:
    """Replace the keys of one kind by a new one."""
    return reply(request.app.state.keeper.change(change.current, change.new))


def new_recovery_key(change: KeyChange, request: Request) -> Response:
    """Make a fresh recovery key; this reply is the only place where it can be read."""
    return reply(RecoveryText(request.app.state.keeper.new_recovery_key(change.current)))


def restore(request: Request) -> Response:
    """Put the generation before the last in the place of a damaged one."""
    return reply(request.app.state.keeper.restore_previous())


# -------------------------------------------------------------------- secrets


def secrets(use: UseSecrets, actor: Asking) -> Response:
    """The secrets that you own or may use; never a value."""
    return reply(use.rows(actor))


def put_secret(name: str, wanted: SecretPut, use: UseSecrets, actor: Asking) -> Response:
    """Store a secret, or the next version of one."""
    return reply(use.put(actor.user, name, wanted))


def remove_secret(found: Found, use: UseSecrets) -> Response:
    """Forget a secret."""
    use.remove(found)
    return Response(status_code=204)


def share_secret(wanted: SecretShares, found: Found, use: UseSecrets) -> Response:
    """Say who else may use a secret."""
    return reply(use.share(found, wanted))


def export_secret(name: str, wanted: SecretBundle, use: UseSecrets, actor: Asking) -> Response:
    """One of your secrets as a file under a passphrase of its own."""
    return reply(use.export(actor.user, name, wanted))


def import_secret(name: str, wanted: SecretBundle, use: UseSecrets, actor: Asking) -> Response:
    """Take an exported secret into the vault."""
    return reply(use.import_bundle(actor.user, name, wanted))


# -------------------------------------------------------------------- members, tokens, quotas


def members(use: UseRights, actor: Asking) -> Response:
    """Who has which role and groups, of those over whom you stand."""
    return reply(use.members(actor))


def grant(name: str, wanted: MemberWish, use: UseRights) -> Response:
    """Give a person a role and groups."""
    return reply(use.grant(UserId(name), wanted))


def tokens(use: UseRights, actor: Asking) -> Response:
    """Tokens that are not over: all for those who issue them, else yours."""
    return reply(use.tokens(actor))


def issue_token(name: str, wish: TokenWish, use: UseRights) -> Response:
    """Make a token; this reply is the only place where it can be read."""
    return reply(use.issue_token(UserId(name), wish))


def revoke_token(name: str, use: UseRights, actor: Asking) -> Response:
    """End a token now. Idempotent."""
    use.revoke_token(actor, name)
    return Response(status_code=204)


def quotas(use: UseRights, actor: Asking) -> Response:
    """The quotas, and what is used of them, of those over whom you stand."""
    return reply(use.quotas(actor))


def set_quota(name: str, wanted: QuotaWish, use: UseRights, actor: Asking) -> Response:
    """Set the quota of a user or a group."""
    return reply(use.set_quota(actor, name, wanted))


# -------------------------------------------------------------------- serving others


def front(request: Request) -> Response:
    """Whether others are served over TLS, and where."""
    return reply(request.app.state.serving.status())


def open_front(wish: FrontWish, request: Request) -> Response:
    """Serve others over TLS; every launch needs a permit from then on."""
    return reply(request.app.state.serving.open(wish))


def close_front(request: Request) -> Response:
    """Serve nobody else any more."""
    client = request.client
    is_over_it = client is not None and client.host.startswith(TLS_PREFIX)
    return reply(request.app.state.serving.close(waits=not is_over_it))


# -------------------------------------------------------------------- audit


def audit(
    use: UseRights,
    actor: Asking,
    *,
    user: str = "",
    action: str = "",
    resource: str = "",
    denied: bool = False,
    since: float | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
    against: str = "",
) -> Response:
    """The newest rows, and whether the chain holds."""
    query = AuditQuery(user, action, resource, denied, since, limit, against)
    return reply(use.audit(actor, query))


def audit_head(use: UseRights) -> Response:
    """The signed head of the audit, to be kept elsewhere."""
    return reply(use.audit_head())


SAFE_ENDPOINTS: tuple[tuple[str, str, Callable[..., Any], Any], ...] = (
    ("GET", "/v1/vault", vault, VaultStatus),
    ("POST", "/v1/vault/unlock", unlock, VaultStatus),
    ("POST", "/v1/vault/lock", lock, VaultStatus),
    ("POST", "/v1/vault/change", change_key, VaultStatus),
    ("POST", "/v1/vault/recovery", new_recovery_key, RecoveryText),
    ("POST", "/v1/vault/restore", restore, VaultStatus),
    ("GET", "/v1/secrets", secrets, list[SecretRow]),
    ("PUT", "/v1/secrets/{name}", put_secret, SecretInfo),
    ("POST", "/v1/secrets/{name}/export", export_secret, SecretBundle),
    ("POST", "/v1/secrets/{name}/import", import_secret, SecretInfo),
    ("DELETE", "/v1/secrets/{owner}/{name}", remove_secret, None),
    ("PUT", "/v1/secrets/{owner}/{name}/shares", share_secret, SecretInfo),
    ("GET", "/v1/members", members, list[Member]),
    ("PUT", "/v1/members/{name}", grant, Member),
    ("GET", "/v1/tokens", tokens, list[TokenRow]),
    ("POST", "/v1/members/{name}/tokens", issue_token, TokenIssued),
    ("DELETE", "/v1/tokens/{name}", revoke_token, None),
    ("GET", "/v1/quotas", quotas, list[QuotaRow]),
    ("PUT", "/v1/quotas/{name}", set_quota, QuotaRow),
    ("GET", "/v1/front", front, FrontStatus),
    ("POST", "/v1/front", open_front, FrontStatus),
    ("DELETE", "/v1/front", close_front, FrontStatus),
    ("GET", "/v1/audit", audit, AuditPage),
    ("GET", "/v1/audit/head", audit_head, SignedHead),
)
"""As `routes.ENDPOINTS`; the rule of each is in `access.RULES`."""
