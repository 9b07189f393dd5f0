"""The widget of secrets and rights without a browser: its messages, and what a notebook keeps."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nbclient import NotebookClient

import jupyter_aios as aios
from jupyter_aios.client import Client
from jupyter_aios.commands import tree
from jupyter_aios.commands.place import Place
from jupyter_aios.controller.access import user_name
from jupyter_aios.core.policy import Role
from jupyter_aios.core.rights import AuditQuery, MemberWish
from jupyter_aios.core.safe import KeyKind, SecretPut, VaultKey, VaultState, wrapped
from jupyter_aios.core.secrets import Secret, SecretClass, Share
from jupyter_aios.errors import DeniedError, UnavailableError, UnknownNameError
from jupyter_aios.widgets.safe.reading import SafeState, read_safe
from jupyter_aios.widgets.safe.static import page
from jupyter_aios.widgets.safe.view import SafeView
from tests.controller.rig import Rig
from tests.homes import home_at
from tests.widgets.safes import LOCKED, MARKUP, everything, secret, without_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WIDGET = "application/vnd.jupyter.widget-view+json"
PLANTED = b"hf_Zq3-planted/value+8841"
FOREIGN_USER = "eve"


class View(SafeView):
    """Keeps what would go to the page."""

    def __init__(self, *args: Any, **rest: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__(*args, **rest)

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        assert not buffers
        self.sent.append(json.loads(json.dumps(content)))

    def say(self, kind: Any, **rest: Any) -> dict[str, Any]:
        """Do what a page does that says something; return the last answer."""
        self._handle_custom_msg({"type": kind, "view": "me", **rest}, [])
        return self.sent[-1] if self.sent else {}


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], bool]]:
    """Give what was displayed, with whether it was an update."""
    shown: list[tuple[dict[str, Any], bool]] = []

    def display(data: dict[str, Any], *, raw: bool, display_id: str, update: bool = False) -> None:
        assert raw
        assert display_id
        shown.append((data, update))

    monkeypatch.setattr("IPython.display.display", display)
    return shown


# ----------------------------------------------------------------------------------- messages


def test_a_view_that_says_hello_gets_everything() -> None:
    told = View(everything).say("hello", can_move=True)
    assert (told["type"], told["to"], told["number"]) == ("snapshot", "me", 0)
    assert [one["name"] for one in told["secrets"]] == ["CLUSTER_KEY", "HF_TOKEN", "HUB"]
    assert len(told["members"]) == 63
    assert len(told["denials"]) == 7


def test_refresh_reads_it_anew_and_tells_every_view() -> None:
    states = [everything(), without_vault(LOCKED)]
    shown = View(lambda: states.pop(0))
    told = shown.say("refresh")
    assert (told["to"], told["number"], told["vault"]["kind"]) == ("*", 1, "locked")
    assert not states
    assert shown.seen.vault is LOCKED


@pytest.mark.parametrize(
    "error",
    [DeniedError("guests may not", hint="ask ada"), UnavailableError("no answer", hint="%aios")],
)
def test_a_refresh_that_fails_is_told_to_who_asked_and_leaves_what_was_seen(
    error: Exception,
) -> None:
    def fail() -> SafeState:
        raise error

    seen = everything()
    shown = View(fail, seen)
    told = shown.say("refresh")
    assert (told["type"], told["to"]) == ("failed", "me")
    assert told["text"] in str(error)
    assert told["hint"] in str(error)
    assert shown.seen is seen


@pytest.mark.parametrize("content", [{}, {"kind": None}, {"kind": "set"}, {"kind": ["refresh"]}])
def test_nonsense_of_a_page_is_harmless(content: dict[str, Any]) -> None:
    shown = View(everything)
    shown.say(**{"kind": "", **content})
    assert shown.sent == []


def test_a_ping_is_answered() -> None:
    assert View(everything).say("ping") == {"type": "pong", "to": "me"}


def test_nothing_of_it_is_in_the_widgets_state_that_a_notebook_saves() -> None:
    shown = View(everything)
    shown.say("hello", can_move=True)
    state = {key: value for key, value in shown.get_state().items() if key not in {"_esm", "_css"}}
    text = json.dumps(state, default=str)
    assert len(text) < 1000
    for name in ("HF_TOKEN", "student-01", "hub.example.org", "secret:read"):
        assert name not in text


# --------------------------------------------------------------------------- what is displayed


def test_the_output_is_a_widget_and_then_a_page(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    shown = View(everything)
    shown._ipython_display_()
    first, is_update = displayed[-1]
    assert not is_update
    assert WIDGET in first
    assert first["text/plain"] == str(shown.text())
    shown.say("seated")
    settled, is_update = displayed[-1]
    assert is_update
    assert set(settled) == {"text/plain", "text/html"}
    assert f"aios-place-{shown.place}" in settled["text/html"]
    count = len(displayed)
    shown.say("seated")
    assert len(displayed) == count


def test_a_refresh_changes_what_a_saved_notebook_shows_too(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    states = [everything(), without_vault(LOCKED)]
    shown = View(lambda: states.pop(0))
    shown.show()
    shown.say("seated")
    assert "HF_TOKEN" in displayed[-1][0]["text/html"]
    shown.say("refresh")
    settled, is_update = displayed[-1]
    assert is_update
    assert "HF_TOKEN" not in settled["text/html"]
    assert "%aios unlock" in settled["text/html"]


def test_a_page_that_cannot_move_the_view_keeps_the_widget(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    shown = View(everything)
    shown.show()
    shown.say("seated")
    shown.say("hello", can_move=False)
    assert {WIDGET, "text/html"} <= set(displayed[-1][0])


def test_names_and_reasons_are_text_in_a_saved_page_and_never_markup() -> None:
    row = secret(MARKUP, SecretClass.INJECT, shares=(Share(f"user:{MARKUP}"),))
    state = everything(2)
    denied = dataclasses.replace(state.denials[0], resource=MARKUP[:40], reason=MARKUP)
    state = dataclasses.replace(
        state,
        secrets=(dataclasses.replace(row, last_used_by=MARKUP),),
        members=tuple(dataclasses.replace(one, groups=(MARKUP,)) for one in state.members),
        audit=dataclasses.replace(state.audit, rows=(denied,), fault=MARKUP),
        vault=dataclasses.replace(state.vault, trouble=MARKUP),
    )
    shown = page(state, "x")
    assert "<img" not in shown
    assert shown.count("&lt;img src=x") >= 7


def test_a_wrong_tables_name_offers_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean denials"):
        View(everything).table("denial")


# ------------------------------------------------------------------------ with a real controller


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the home of a controller whose vault nobody has made yet; tests go on from each other.

    So they stand in this file's order: absent, open, locked.
    """
    with home_at(tmp_path_factory.mktemp("safe") / "home") as home:
        yield home


def unlock(client: Client) -> None:
    """Open the vault; the first to ask makes it."""
    key = client.home.parent / "key"
    if not key.exists():
        key.write_text("ab" * 32)
        key.chmod(0o600)
    client.safe.unlock(VaultKey(KeyKind.KEY_FILE, str(key)))


def ssh_key() -> bytes:
    """Return a private key as ssh-keygen writes it."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def spellings(value: bytes) -> set[str]:
    """Return how a value would stand in a text, a line of it at a time."""
    found = set()
    for line in [value, *(line for line in value.splitlines() if b"-----" not in line)]:
        found |= {line.decode(), base64.b64encode(line).decode(), line.hex()}
        found.add(json.dumps(line.decode())[1:-1])
    return found


def test_without_a_vault_a_list_makes_none_and_asks_for_no_passphrase(home: Path) -> None:
    state = read_safe(Client(home), time.time())
    assert words_of(state) == "absent"
    shown = tree.run(["secret", "list"], Place(prefix="jupyter aios"))
    assert repr(shown) == "no secrets yet; %aios secret set NAME"
    assert not (home / "vault").exists()


def words_of(state: SafeState) -> str:
    """Return the kind of vault that a page is told of."""
    return str(View(lambda: state).say("hello", can_move=True)["vault"]["kind"])


def test_no_value_is_in_any_message_state_page_or_text(
    home: Path, displayed: list[tuple[dict[str, Any], bool]]
) -> None:
    safe = Client(home).safe
    unlock(Client(home))
    values = {"HF_TOKEN": PLANTED, "DEPLOY": ssh_key(), "HUB": PLANTED[::-1]}
    hub = "http://127.0.0.1:9/models/"
    safe.put_secret("HF_TOKEN", SecretPut(wrapped(Secret(values["HF_TOKEN"]))))
    safe.put_secret("DEPLOY", SecretPut(wrapped(Secret(values["DEPLOY"])), SecretClass.BROKER))
    safe.put_secret("HUB", SecretPut(wrapped(Secret(values["HUB"])), SecretClass.DERIVED, hub))
    safe.grant(FOREIGN_USER, MemberWish(Role.STUDENT, ("ml",)))
    answer = aios.safe()
    assert [row.name for row in answer] == ["DEPLOY", "HF_TOKEN", "HUB"]
    assert (len(answer), answer[1].kind) == (3, "inject")
    shown = View(lambda: read_safe(Client(home), time.time()))
    shown.show()
    for kind in ("hello", "seated", "refresh", "ping"):
        shown.say(kind, can_move=True)
    everywhere = "\n".join(
        [
            *map(json.dumps, shown.sent),
            json.dumps(shown.get_state(), default=str),
            *(json.dumps(data) for data, _ in displayed),
            *(data["text/html"] for data, _ in displayed if "text/html" in data),
            str(shown.text()),
            repr(shown.seen),
            repr(answer),
            *(repr(answer.table(of)) for of in ("secrets", "members", "denials")),
        ]
    )
    assert all(name in everywhere for name in (*values, hub, "ssh-ed25519", FOREIGN_USER))
    leaked = [
        name for name, value in values.items() for one in spellings(value) if one in everywhere
    ]
    assert not leaked


def test_a_list_in_a_shell_is_a_table_and_in_a_notebook_without_frontend_too(home: Path) -> None:
    assert home.is_dir()
    for place in (Place(prefix="jupyter aios"), Place(namespace={})):
        shown: Any = tree.run(["secret", "list"], place)
        assert [row.name for row in shown] == ["DEPLOY", "HF_TOKEN", "HUB"]


def test_a_locked_vault_is_not_asked_for_its_secrets(home: Path) -> None:
    client = Client(home)
    unlock(client)
    client.safe.lock()
    listed = AuditQuery(action="secret:list", limit=1000)
    before = len(client.safe.audit(listed).rows)
    state = read_safe(client, time.time())
    assert state.secrets == ()
    assert words_of(state) == "locked"
    assert len(client.safe.audit(listed).rows) == before


def test_a_vault_that_is_locked_in_the_middle_is_told_as_locked(home: Path) -> None:
    client = Client(home)
    unlock(client)
    told: Callable[[], Any] = client.safe.vault
    asked: list[VaultState] = []

    def locks_behind() -> Any:
        status = told()
        if not asked:
            client.safe.lock()
        asked.append(status.state)
        return status

    client.safe.vault = locks_behind  # type: ignore[method-assign]
    state = read_safe(client, time.time())
    assert len(asked) == 2
    assert (state.secrets, words_of(state)) == ((), "locked")


def test_a_notebook_that_a_program_runs_keeps_the_page(home: Path) -> None:
    assert home.is_dir()
    cells = [
        "%load_ext jupyter_aios",
        "%aios secret list",
        "import jupyter_aios\njupyter_aios.safe()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    for cell in notebook.cells[1:]:
        (shown,) = cell.outputs
        assert set(shown.data) == {"text/plain", "text/html"}
        assert "vault locked" in shown.data["text/html"]
        assert "%aios unlock" in shown.data["text/plain"]


# ------------------------------------------------------------------------ as somebody else


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Give a controller that serves others; ada has two secrets, one of them shared with bob."""
    rig = Rig(tmp_path / "home")
    rig.open_vault()
    rig.put_secret("MINE", PLANTED)
    rig.put_secret("OURS", PLANTED, shares=(Share("user:bob"),))
    yield rig
    rig.controller.close()


def test_a_student_sees_what_is_shared_and_nobody_else(rig: Rig) -> None:
    shown = View(lambda: read_safe(rig.log_in("bob"), 0.0)).say("hello", can_move=True)
    assert [(one["owner"], one["name"], one["may"]) for one in shown["secrets"]] == [
        ("ada", "OURS", "use")
    ]
    assert [one["name"] for one in shown["members"]] == ["bob"]
    assert "MINE" not in json.dumps(shown)


def test_a_guest_is_refused_and_leaves_one_line_in_the_audit(rig: Rig) -> None:
    with pytest.raises(DeniedError, match=r"zoe \(guest\) may not status:read"):
        read_safe(rig.log_in("zoe"), 0.0)
    denied = rig.rights.audit(rig.actor(user_name(os.getuid())), AuditQuery(only_denied=True)).rows
    assert [row.user for row in denied] == ["zoe"]
