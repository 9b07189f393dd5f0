"""Secrets as they are asked for: kept, shared, exported, and never shown."""

from __future__ import annotations

import base64
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jupyter_aios.controller.access import user_name
from jupyter_aios.controller.http import create_server
from jupyter_aios.controller.rules import RULES
from jupyter_aios.controller.secrets import SYSTEM
from jupyter_aios.controller.ssh_keys import parse_private_key
from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import SecretUse, UserId
from jupyter_aios.core.policy import Action, Member, Role
from jupyter_aios.core.rights import MemberWish, QuotaWish, TokenWish
from jupyter_aios.core.safe import (
    KeyChange,
    KeyKind,
    SecretBundle,
    SecretPut,
    SecretShares,
    VaultKey,
    VaultState,
    wrapped,
)
from jupyter_aios.core.secrets import MAX_SECRET_BYTES, Secret, SecretClass, Share
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    LockedError,
    StateError,
    UnknownNameError,
)
from jupyter_aios.vault import Vault
from tests.controller.rig import ME, Reply, Rig, fake_spec
from tests.controller.test_ssh_keys import KINDS, generate
from tests.vault.safes import passphrase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOB, CAROL, DAN = UserId("bob"), UserId("carol"), UserId("dan")
RUNS = user_name(os.getuid())
HUB = "https://hub.school/api"
VALUE = "s3cret-of-ada-0451"
INJECT, BROKER, DERIVED = SecretClass.INJECT, SecretClass.BROKER, SecretClass.DERIVED


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home")
    rig.store.save_member(Member(CAROL, Role.STUDENT, ("ml",)))
    rig.store.save_member(Member(DAN, Role.STUDENT))
    rig.open_vault()
    yield rig
    rig.controller.close()


def typed(value: str | bytes, **changes: Any) -> SecretPut:
    return SecretPut(wrapped(Secret(value)), **changes)


def refusal(act: Callable[[], object]) -> AiosError:
    with pytest.raises(AiosError) as caught:
        act()
    return caught.value


@pytest.fixture(scope="module")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("ssh"), "ed25519")


# ------------------------------------------------------------------------ put


def test_a_secret_is_kept_and_its_next_version_replaces_it(rig: Rig) -> None:
    first = rig.put_secret("TOKEN", VALUE, shares=(Share("user:bob"),))
    rig.fake.machine.now += 10
    second = rig.secrets.put(ME, "TOKEN", typed("another", must_exist=True))
    assert (first.version, second.version) == (1, 2)
    assert (second.created_at, second.changed_at) == (first.created_at, first.changed_at + 10)
    assert (second.kind, second.shares) == (INJECT, (Share("user:bob"),))
    assert rig.secrets.value(second) == Secret("another")


def test_a_rotation_keeps_class_and_target(rig: Rig, ssh_key: Path, tmp_path: Path) -> None:
    rig.put_secret("HUB", VALUE, DERIVED, target=HUB)
    rotated = rig.secrets.put(ME, "HUB", typed("another", must_exist=True))
    assert (rotated.kind, rotated.target) == (DERIVED, HUB)
    old = rig.put_secret("SSH", ssh_key.read_bytes(), BROKER)
    other = generate(tmp_path, "ecdsa-256").read_bytes()
    new = rig.secrets.put(ME, "SSH", typed(other, must_exist=True))
    assert new.kind is BROKER
    assert new.public != old.public
    error = refusal(lambda: rig.secrets.put(ME, "SSH", typed("no key", must_exist=True)))
    assert isinstance(error, InputError)


def test_all_faults_are_told_at_once_and_no_value_is(rig: Rig) -> None:
    error = refusal(lambda: rig.secrets.put(ME, "9 lives", typed("", kind=DERIVED)))
    assert isinstance(error, InputError)
    assert error.message == (
        "3 faults: '9 lives': a letter, then up to 63 letters, digits, '_', '-' or '.';"
        " the value is empty;"
        " --target URL and --class derived go together: where the controller may send it"
    )


@pytest.mark.parametrize(
    ("name", "put", "told"),
    [
        ("", typed(VALUE), "a letter, then up to 63"),
        ("x" * 65, typed(VALUE), "a letter, then up to 63"),
        ("A\nB", typed(VALUE), "a letter, then up to 63"),
        ("A/B", typed(VALUE), "a letter, then up to 63"),
        ("T", typed(""), "the value is empty"),
        ("T", typed(b"x" * (MAX_SECRET_BYTES + 1)), "has 65537 bytes, at most 65536"),
        ("T", SecretPut("no base64: " + VALUE), "is not base64"),
        ("T", typed(VALUE, target=HUB), "go together"),
        ("T", typed(VALUE, kind=DERIVED), "go together"),
        ("T", typed(VALUE, kind=DERIVED, target="http://hub.school/"), "only https"),
        ("T", typed(VALUE, kind=DERIVED, target=f"https://ada:{VALUE}@hub/"), "name or password"),
        ("T", typed(VALUE, kind=DERIVED, target="https://hub/?a"), "a query"),
        ("T", typed(VALUE, kind=DERIVED, target="https://hub/../x"), "the path"),
        ("T", typed(VALUE, kind=DERIVED, target="hub.school"), "no scheme"),
        ("T", typed(VALUE, kind=DERIVED, target="https://hub\n/"), "no URL has"),
        ("T", typed(VALUE, kind=BROKER), "not a private key"),
    ],
    ids=range(16),
)
def test_what_cannot_be_kept_is_told_without_its_value(
    rig: Rig, name: str, put: SecretPut, told: str
) -> None:
    error = refusal(lambda: rig.secrets.put(ME, name, put))
    assert isinstance(error, InputError)
    assert told in error.message
    assert error.hint
    assert VALUE not in str(error)
    assert put.value not in str(error) or not put.value
    assert rig.secrets.rows(rig.actor(ME)) == ()


def test_only_who_runs_the_controller_sends_secrets_to_its_own_machine(rig: Rig) -> None:
    for target in ("http://127.0.0.1:8888/", "http://localhost/", "http://[::1]:80/"):
        error = refusal(
            lambda target=target: rig.put_secret("T", VALUE, DERIVED, target=target)  # type: ignore[misc]
        )
        assert error.message == f"--target {target}: begins with https://"
    info = rig.put_secret("T", VALUE, DERIVED, owner=RUNS, target="http://127.0.0.1:8888/")
    assert info.target == "http://127.0.0.1:8888/"


def test_a_new_secret_replaces_none_and_a_rotation_makes_none(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    error = refusal(lambda: rig.put_secret("TOKEN", "x"))
    assert isinstance(error, StateError)
    assert (error.message, error.hint) == (
        "there is a secret TOKEN already, version 1",
        "%aios secret rotate TOKEN",
    )
    error = refusal(lambda: rig.secrets.put(ME, "TOKEM", typed("x", must_exist=True)))
    assert isinstance(error, UnknownNameError)
    assert error.hint == "did you mean TOKEN?"
    # Each owner has names of their own.
    assert rig.put_secret("TOKEN", "of bob", owner=BOB).version == 1


def test_a_removed_secret_is_gone(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE)
    rig.secrets.remove(info)
    assert isinstance(refusal(lambda: rig.secrets.find(ME, "TOKEN")), UnknownNameError)


def test_a_locked_vault_tells_not_even_names(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.controller.keeper.lock()
    for act in (
        lambda: rig.secrets.rows(rig.actor(ME)),
        lambda: rig.secrets.find(ME, "TOKEN"),
        lambda: rig.put_secret("OTHER", VALUE),
        lambda: rig.secrets.export(ME, "TOKEN", SecretBundle("pass")),
        lambda: rig.secrets.import_bundle(ME, "TOKEN", SecretBundle("pass", "")),
    ):
        error = refusal(act)
        assert isinstance(error, LockedError)
        assert error.hint == "%aios unlock"


# ------------------------------------------------------------------------ SSH keys


@pytest.mark.parametrize("kind", KINDS)
def test_an_ssh_key_of_every_kind_is_kept_with_its_public_line(
    rig: Rig, tmp_path: Path, kind: str
) -> None:
    path = generate(tmp_path, kind)
    info = rig.put_secret("CLUSTER", path.read_bytes(), BROKER)
    line = path.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    assert info.public == f"{line} aios:CLUSTER"


@pytest.mark.parametrize("options", [("-m", "PEM"), ("-m", "PKCS8")])
def test_other_forms_of_ssh_keys_are_kept_too(
    rig: Rig, tmp_path: Path, options: tuple[str, str]
) -> None:
    path = generate(tmp_path, "rsa-2048", "", *options)
    assert b"OPENSSH" not in path.read_bytes()
    info = rig.put_secret("CLUSTER", path.read_bytes(), BROKER)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, check=True)
    assert info.public.split()[:2] == shown.stdout.decode().split()[:2]


def test_an_encrypted_ssh_key_is_opened_once_and_kept_without_its_passphrase(
    rig: Rig, tmp_path: Path
) -> None:
    path = generate(tmp_path, "ed25519", "of the key")
    content = path.read_bytes()
    for passphrase_, told in (("", "none was given"), ("another", "passphrase is another")):
        put = typed(content, kind=BROKER, passphrase=passphrase_)
        error = refusal(lambda put=put: rig.secrets.put(ME, "SSH", put))  # type: ignore[misc]
        assert isinstance(error, InputError)
        assert told in error.message
    info = rig.secrets.put(ME, "SSH", typed(content, kind=BROKER, passphrase="of the key"))
    kept = rig.secrets.value(info)
    assert b"of the key" not in kept.reveal()
    public = parse_private_key(kept).public_key()
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    line = public.public_bytes(*form).decode()
    assert path.with_suffix(".pub").read_text().startswith(line)


def test_a_key_that_is_no_good_for_ssh_is_refused(rig: Rig) -> None:
    key = ec.generate_private_key(ec.SECP256K1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    error = refusal(lambda: rig.put_secret("SSH", key, BROKER))
    assert "ECDSA with secp256k1 cannot be used" in error.message


# ------------------------------------------------------------------------ shares


def test_shares_are_all_there_are(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE)
    two = (Share("user:bob"), Share("group:ml", "read"))
    assert rig.secrets.share(info, SecretShares(two)).shares == two
    assert rig.secrets.share(info, SecretShares(())).shares == ()


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (Share("bob"), "'bob': user:NAME or group:NAME"),
        (Share("user:"), "'user:': user:NAME or group:NAME"),
        (Share("everybody:x"), "'everybody:x': user:NAME or group:NAME"),
        (Share("user:bob", "write"), "'write': one of use, read"),
        (Share("user:bob\n"), "is neither user:NAME nor group:NAME"),
    ],
)
def test_a_share_that_cannot_be_is_told(rig: Rig, share: Share, told: str) -> None:
    info = rig.put_secret("TOKEN", VALUE)
    error = refusal(lambda: rig.secrets.share(info, SecretShares((share,))))
    assert isinstance(error, InputError)
    assert told in error.message
    assert rig.secrets.find(ME, "TOKEN").shares == ()


def test_all_shares_that_cannot_be_are_told_at_once(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE)
    shares = SecretShares((Share("bob", "write"), Share("user:eve", "sell")))
    assert refusal(lambda: rig.secrets.share(info, shares)).message.startswith("3 faults: ")
    twice = SecretShares((Share("user:bob"), Share("user:bob", "read")))
    assert "two shares are to the same" in refusal(lambda: rig.secrets.share(info, twice)).message


def test_an_ssh_key_can_be_used_by_others_and_read_by_none(rig: Rig, ssh_key: Path) -> None:
    info = rig.put_secret("SSH", ssh_key.read_bytes(), BROKER)
    read = SecretShares((Share("user:bob", "read"),))
    error = refusal(lambda: rig.secrets.share(info, read))
    assert error.message == "SSH is an SSH key: it can be used, nobody reads it"
    assert rig.secrets.share(info, SecretShares((Share("user:bob"),))).shares


# ------------------------------------------------------------------------ lists


def test_a_list_has_one_s_own_and_what_one_may_use(rig: Rig) -> None:
    rig.put_secret("A_USE", VALUE, shares=(Share("user:bob"),))
    rig.put_secret("B_READ", VALUE, shares=(Share("user:bob", "read"),))
    rig.put_secret("C_GROUP", VALUE, shares=(Share("group:ml"),))
    rig.put_secret("D_NOBODY", VALUE)
    rig.put_secret("OWN", VALUE, owner=BOB)
    rig.controller.keeper.open_vault().set(SYSTEM, "own", Secret(VALUE), BROKER, now=0.0)

    def seen(user: UserId) -> dict[str, str]:
        rows = rig.secrets.rows(rig.actor(user))
        return {f"{row.info.owner}/{row.info.name}": row.may for row in rows}

    assert seen(ME) == {f"ada/{name}": "own" for name in ("A_USE", "B_READ", "C_GROUP", "D_NOBODY")}
    assert seen(BOB) == {"ada/A_USE": "use", "ada/B_READ": "read", "bob/OWN": "own"}
    assert seen(CAROL) == {"ada/C_GROUP": "use"}
    assert seen(DAN) == {}
    admins = seen(RUNS)
    # An admin may have everything used, and reads nothing; the controller's own is nobody's.
    assert set(admins.values()) == {"use"}
    assert list(admins) == sorted(seen(ME) | {"bob/OWN": ""})


def test_a_list_tells_who_used_a_secret_last_however_often_a_longer_name_was(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.put_secret("TOKEN2", VALUE)
    rig.put_secret("NEVER", VALUE)

    def used(name: str, at: float, *, is_allowed: bool = True, reason: str = "job j1: own") -> None:
        action, resource = Action.SECRET_READ.value, f"secret:ada/{name}"
        rig.store.add_audit(AuditRow(at, BOB, action, resource, is_allowed, reason))

    used("TOKEN", 5.0)
    used("TOKEN", 6.0, is_allowed=False)
    used("TOKEN", 7.0, reason="own")  # no job's
    for number in range(300):
        used("TOKEN2", 10.0 + number)
    rows = {row.info.name: row for row in rig.secrets.rows(rig.actor(ME))}
    assert (rows["TOKEN"].last_used_at, rows["TOKEN"].last_used_by) == (5.0, "bob, job j1")
    assert rows["TOKEN2"].last_used_at == 309.0
    assert (rows["NEVER"].last_used_at, rows["NEVER"].last_used_by) == (None, "")


def test_who_used_a_secret_is_told_to_its_owner_only(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE, shares=(Share("user:eve"),))
    read, resource = Action.SECRET_READ.value, "secret:ada/TOKEN"
    rig.store.add_audit(AuditRow(5.0, BOB, read, resource, is_allowed=True, reason="job j1: own"))
    for_eve, for_me = (rig.secrets.rows(rig.actor(who))[0] for who in (UserId("eve"), ME))
    assert (for_me.last_used_at, for_me.last_used_by) == (5.0, "bob, job j1")
    assert (for_eve.last_used_at, for_eve.last_used_by) == (5.0, "")


# ------------------------------------------------------------------------ files of their own


def test_an_exported_secret_comes_back_under_any_name_and_owner(rig: Rig, ssh_key: Path) -> None:
    rig.put_secret("HUB", VALUE, DERIVED, target=HUB, shares=(Share("user:bob"),))
    bundle = rig.secrets.export(ME, "HUB", SecretBundle("of the file"))
    content = base64.b64decode(bundle.content)
    for part in (VALUE, HUB, "HUB", "ada", "of the file"):
        assert part.encode() not in content
    opened = SecretBundle("of the file", bundle.content)
    info = rig.secrets.import_bundle(BOB, "MINE", opened)
    assert (info.owner, info.kind, info.target, info.version) == (BOB, DERIVED, HUB, 1)
    assert info.shares == ()
    assert rig.secrets.value(info) == Secret(VALUE)
    rig.put_secret("SSH", ssh_key.read_bytes(), BROKER)
    key = rig.secrets.export(ME, "SSH", SecretBundle("of the file"))
    info = rig.secrets.import_bundle(BOB, "KEY", replace(key, passphrase="of the file"))
    assert info.public.endswith(" aios:KEY")


def test_an_export_wants_a_passphrase_and_a_secret(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    assert isinstance(
        refusal(lambda: rig.secrets.export(ME, "TOKEN", SecretBundle(""))), InputError
    )
    missing = refusal(lambda: rig.secrets.export(BOB, "TOKEN", SecretBundle("x")))
    assert isinstance(missing, UnknownNameError)


def test_an_import_wants_the_right_passphrase_and_a_free_name(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    content = rig.secrets.export(ME, "TOKEN", SecretBundle("right")).content
    wrong = refusal(lambda: rig.secrets.import_bundle(ME, "B", SecretBundle("wrong", content)))
    assert isinstance(wrong, DeniedError)
    taken = refusal(lambda: rig.secrets.import_bundle(ME, "TOKEN", SecretBundle("right", content)))
    assert isinstance(taken, StateError)
    assert len(rig.secrets.rows(rig.actor(ME))) == 1


def made_by_hand(folder: Path, *secrets: tuple[str, SecretClass, str]) -> str:
    """Return a file as somebody makes it who is not bound by the controller's checks."""
    folder.mkdir()
    bundle = Vault.create(folder / "vault", [passphrase("x")], now=0.0)
    for number, (value, kind, target) in enumerate(secrets):
        bundle.set(ME, f"S{number}", Secret(value), kind, now=0.0, target=target)
    bundle.close()
    return base64.b64encode((folder / "vault").read_bytes()).decode()


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        ((), "it holds 0 secrets, an export holds one"),
        ((("a", INJECT, ""), ("b", INJECT, "")), "it holds 2 secrets, an export holds one"),
        ((("a", BROKER, ""),), "not a private key"),
        ((("a", DERIVED, "http://127.0.0.1:8888/"),), "begins with https://"),
        ((("a", DERIVED, "http://hub.school/"),), "only https"),
        ((("a", DERIVED, ""),), "go together"),
        ((("", INJECT, ""),), "the value is empty"),
    ],
    ids=["none", "two", "no key", "own machine", "plain", "no target", "empty"],
)
def test_a_file_that_was_made_by_hand_is_looked_at_like_what_is_typed(
    rig: Rig, tmp_path: Path, secrets: tuple[tuple[str, SecretClass, str], ...], told: str
) -> None:
    content = made_by_hand(tmp_path / "hand", *secrets)
    error = refusal(lambda: rig.secrets.import_bundle(BOB, "MINE", SecretBundle("x", content)))
    assert isinstance(error, InputError)
    assert told in error.message
    assert rig.secrets.rows(rig.actor(BOB)) == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no base64!", "it is not base64"),
        ("", "cut off at byte 0"),
        (base64.b64encode(b"PK\3\4" + bytes(500)).decode(), "this is no vault"),
        (base64.b64encode(b"\x89aios\r\n\x1a").decode(), "cut off at byte 8"),
    ],
)
def test_what_is_no_exported_file_is_told_as_that(rig: Rig, content: str, told: str) -> None:
    error = refusal(lambda: rig.secrets.import_bundle(ME, "A", SecretBundle("x", content)))
    assert isinstance(error, InputError)
    assert error.message.startswith("that is no exported secret: ")
    assert told in error.message
    assert error.hint == "%aios secret export NAME"


def test_a_damaged_file_is_told_as_no_export_and_not_as_the_vault_s_damage(
    rig: Rig, tmp_path: Path
) -> None:
    content = bytearray(base64.b64decode(made_by_hand(tmp_path / "hand", ("a", INJECT, ""))))
    content[-1] ^= 1
    damaged = base64.b64encode(content).decode()
    error = refusal(lambda: rig.secrets.import_bundle(ME, "A", SecretBundle("x", damaged)))
    assert isinstance(error, InputError)
    assert "restore" not in str(error)


MEMORY_AT, PASSES_AT = 76 + 9, 76 + 13
"""Where docs/vault-format.md has them: after the head, and a slot's id and kind."""


def test_a_file_that_takes_much_memory_to_try_is_refused_untried(rig: Rig, tmp_path: Path) -> None:
    content = bytearray(base64.b64decode(made_by_hand(tmp_path / "hand", ("a", INJECT, ""))))
    assert int.from_bytes(content[MEMORY_AT : MEMORY_AT + 4], "big") == 19 * 1024
    content[MEMORY_AT : MEMORY_AT + 4] = (2**18).to_bytes(4, "big")
    content[PASSES_AT : PASSES_AT + 4] = (4).to_bytes(4, "big")
    costly = base64.b64encode(content).decode()
    error = refusal(lambda: rig.secrets.import_bundle(ME, "A", SecretBundle("x", costly)))
    assert isinstance(error, InputError)
    assert "1 ways in, which go through 1.0 GiB" in error.message


# ------------------------------------------------------------------------ for jobs


def use_faults(rig: Rig, user: UserId, use: SecretUse) -> AiosError | None:
    """Return what a submission with this secret would hear; None: nothing."""
    try:
        rig.controller.launching.check(user, [use])
    except AiosError as error:
        return error
    return None


def test_what_a_job_sees_asks_for_read_and_what_it_only_uses_for_use(
    rig: Rig, ssh_key: Path
) -> None:
    use, read = (Share("user:bob"),), (Share("user:bob", "read"),)
    rig.put_secret("INJECT_USE", VALUE, shares=use)
    rig.put_secret("INJECT_READ", VALUE, shares=read)
    rig.put_secret("BROKER", ssh_key.read_bytes(), BROKER, shares=use)
    rig.put_secret("DERIVED", VALUE, DERIVED, target=HUB, shares=use)
    for name in ("INJECT_READ", "BROKER", "DERIVED"):
        assert use_faults(rig, BOB, SecretUse(name, owner=ME)) is None
    error = use_faults(rig, BOB, SecretUse("INJECT_USE", owner=ME))
    assert isinstance(error, DeniedError)
    assert error.message == ("bob (student) may not secret:read on secret 'ada/INJECT_USE' of ada")
    assert error.hint == "ask ada"


def test_not_even_an_admin_has_somebody_s_value_in_a_job(rig: Rig, ssh_key: Path) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.put_secret("SSH", ssh_key.read_bytes(), BROKER)
    assert use_faults(rig, RUNS, SecretUse("SSH", owner=ME)) is None
    assert isinstance(use_faults(rig, RUNS, SecretUse("TOKEN", owner=ME)), DeniedError)


def test_a_stranger_cannot_tell_a_secret_from_one_that_is_not_there(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    told = set()
    for owner, name in ((ME, "TOKEN"), (ME, "TOKEM"), (SYSTEM, "tls-certificate")):
        error = use_faults(rig, DAN, SecretUse(name, owner=owner))
        assert isinstance(error, UnknownNameError)
        told.add(str(error).replace(name, "NAME").replace(owner, "OWNER"))
    assert len(told) == 1


def test_one_s_own_name_that_is_wrong_is_met_with_the_nearest(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    error = use_faults(rig, ME, SecretUse("TOKEM"))
    assert error is not None
    assert error.hint == "did you mean TOKEN?"


def test_a_variable_is_only_for_what_reaches_the_job(rig: Rig, ssh_key: Path) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.put_secret("SSH", ssh_key.read_bytes(), BROKER)
    rig.put_secret("HUB", VALUE, DERIVED, target=HUB)
    assert use_faults(rig, ME, SecretUse("TOKEN", "HF_TOKEN")) is None
    for name, kind in (("SSH", "broker"), ("HUB", "derived")):
        error = use_faults(rig, ME, SecretUse(name, "VARIABLE"))
        assert isinstance(error, InputError)
        assert error.message == f"{name} is {kind}: it never reaches the job, no variable has it"
        assert error.hint == f"--secret {name}"


# ------------------------------------------------------------------------ over the routes

TEACHER, STUDENT, MATE, GUEST = 4001, 4002, 4003, 4004


@pytest.fixture
def school(rig: Rig, ssh_key: Path) -> Rig:
    """Give a controller that all kinds of people ask; their names are their user ids."""
    for uid, role in ((TEACHER, Role.TEACHER), (STUDENT, Role.STUDENT), (MATE, Role.STUDENT)):
        rig.store.save_member(Member(UserId(str(uid)), role, ("ml",)))
    owner = UserId(str(TEACHER))
    read = (Share(f"user:{STUDENT}", "read"),)
    rig.put_secret("TOKEN", VALUE, owner=owner, shares=read)
    rig.put_secret("HUB", VALUE, DERIVED, owner=owner, shares=(Share("group:ml"),), target=HUB)
    rig.put_secret("SSH", ssh_key.read_bytes(), BROKER, owner=owner, shares=(Share("group:ml"),))
    return rig


def bodies(method: str, path: str) -> list[object]:
    """Return what a request may hold, right and wrong, with values in it wherever they go."""
    key = VaultKey(KeyKind.PASSPHRASE, VALUE)
    known: dict[tuple[str, str], list[object]] = {
        ("POST", "/v1/vault/unlock"): [key],
        ("POST", "/v1/vault/change"): [KeyChange(key, key)],
        ("POST", "/v1/vault/recovery"): [KeyChange(key, key)],
        ("PUT", "/v1/secrets/{name}"): [
            typed(VALUE), typed(VALUE, must_exist=True), typed(VALUE, kind=BROKER),
            typed(VALUE, kind=DERIVED, target=f"https://a:{VALUE}@hub/"),
            SecretPut(VALUE), {"value": {"nested": VALUE}}, {"value": VALUE, "kind": VALUE},
        ],
        ("POST", "/v1/secrets/{name}/export"): [SecretBundle(VALUE)],
        ("POST", "/v1/secrets/{name}/import"): [SecretBundle(VALUE, "bm8="), {"content": [VALUE]}],
        ("PUT", "/v1/secrets/{owner}/{name}/shares"): [SecretShares((Share("group:ml"),))],
        ("PUT", "/v1/members/{name}"): [MemberWish(Role.STUDENT, ("ml",))],
        ("POST", "/v1/members/{name}/tokens"): [TokenWish(60.0)],
        ("PUT", "/v1/quotas/{name}"): [QuotaWish(None)],
        ("POST", "/v1/jobs"): [fake_spec(name="job", secrets=(SecretUse("TOKEN", "X"),))],
        ("POST", "/v1/plans"): [fake_spec(secrets=(SecretUse("TOKEN", "X"),))],
    }  # fmt: skip
    return [*known.get((method, path), []), *([{}] if method in ("POST", "PUT") else [])]


def all_replies(school: Rig) -> Iterator[tuple[str, Reply]]:
    """Yield what every route answers to people of every kind, what removes things coming last."""
    create_server(school.controller.app)  # some routes ask it whether it ends
    owner = str(TEACHER)
    places = {
        "{owner}": owner, "{name}": "TOKEN", "{key}": "job", "{sha256}": "0" * 64,
        "{number}": "1", "{rank}": "0", "{name:path}": "TOKEN",
    }  # fmt: skip
    last = [("DELETE", p) for m, p in RULES if m == "DELETE"] + [("POST", "/v1/vault/lock")]
    not_here = {("POST", "/v1/shutdown"), ("POST", "/v1/front"), ("DELETE", "/v1/front")}
    for method, path in [*(r for r in RULES if r not in (*last, *not_here)), *last]:
        filled = path
        for place, value in places.items():
            filled = filled.replace(place, quote(value, safe=""))
        for uid in (GUEST, MATE, STUDENT, TEACHER, os.getuid()):
            for body in bodies(method, path) or [None]:
                reply = school.ask(uid, method, filled, body)
                yield f"{uid} {method} {filled}", reply


def test_no_route_shows_a_value_to_anybody(school: Rig, ssh_key: Path) -> None:
    key_lines = [line for line in ssh_key.read_bytes().splitlines() if b"-----" not in line]
    values = [VALUE.encode(), *key_lines]
    values += [
        shown for value in values for shown in (base64.b64encode(value), value.hex().encode())
    ]
    statuses = set()
    for what, reply in all_replies(school):
        statuses.add(reply.status)
        assert reply.status != 500, (what, reply.body)
        assert not [value for value in values if value in reply.body], what
    # They were real requests: done, refused, denied, not found, in the wrong state.
    assert {200, 204, 403, 404, 409, 422} <= statuses
    assert school.controller.keeper.status().state is VaultState.LOCKED


def test_nor_does_the_audit_or_anything_in_the_home(school: Rig, ssh_key: Path) -> None:
    for _ in all_replies(school):
        pass
    rows = school.store.audit(10_000)
    assert len(rows) > 100
    assert VALUE not in repr(rows)
    key_line = ssh_key.read_bytes().splitlines()[2]
    for path in school.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert VALUE.encode() not in content, path
            assert key_line not in content, path


def test_what_the_controller_keeps_for_itself_is_reached_by_no_route(school: Rig) -> None:
    vault = school.controller.keeper.open_vault()
    vault.set(SYSTEM, "tls-certificate", Secret(VALUE), BROKER, now=0.0)
    place = f"/v1/secrets/{quote(SYSTEM, safe='')}/tls-certificate"
    for uid in (os.getuid(), TEACHER, STUDENT):
        for method, path, body in (
            ("DELETE", place, None),
            ("PUT", f"{place}/shares", SecretShares((Share(f"user:{uid}", "read"),))),
        ):
            reply = school.ask(uid, method, path, body)
            assert reply.status == 404
            assert reply.json()["kind"] == "UnknownNameError"
        assert SYSTEM.encode() not in school.ask(uid, "GET", "/v1/secrets").body
    reply = school.ask(os.getuid(), "PUT", f"/v1/members/{SYSTEM}", MemberWish(Role.ADMIN))
    assert reply.status == 422
    reply = school.ask(os.getuid(), "POST", f"/v1/members/{SYSTEM}/tokens", TokenWish(60.0))
    assert reply.status == 422
    use = SecretUse("tls-certificate", owner=SYSTEM)
    assert isinstance(use_faults(school, RUNS, use), UnknownNameError)
    assert vault.info(SYSTEM, "tls-certificate").shares == ()


def test_what_only_its_owner_may_is_refused_to_an_admin(school: Rig) -> None:
    path = f"/v1/secrets/{TEACHER}/TOKEN"
    shares = SecretShares((Share(f"user:{RUNS}", "read"),))
    reply = school.ask(os.getuid(), "PUT", f"{path}/shares", shares)
    assert (reply.status, reply.json()["kind"]) == (403, "DeniedError")
    # The name is the asker's: there is none of theirs.
    assert (
        school.ask(os.getuid(), "POST", "/v1/secrets/TOKEN/export", SecretBundle("x")).status == 404
    )
    assert school.ask(os.getuid(), "DELETE", path).status == 204
