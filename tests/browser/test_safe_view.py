"""The view of secrets and rights as people meet it: JupyterLab, Chromium, mouse and keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from jupyter_aios.core.safe import KeyKind, SecretPut, VaultKey, wrapped
from jupyter_aios.core.secrets import Secret
from tests.browser.lab import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator

    from tests.browser.lab import Lab, Sheet

# One worker: JupyterLab is shared.
pytestmark = pytest.mark.xdist_group("browser")

SETUP = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from jupyter_aios.widgets.safe.view import SafeView
from tests.widgets.safes import *
"""
# Parts of the view that are wider than their place.
OVERFLOWING = """\
() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output, .aios, .aios *')]
  .filter((node) => node.clientWidth && node.scrollWidth > node.clientWidth + 1
    && getComputedStyle(node).clipPath === 'none' && node.tagName !== 'INPUT')
  .map((node) => `${node.className}: ${node.scrollWidth} > ${node.clientWidth}`)
"""
# What the page may be read by, against the ground behind it (WCAG's contrast ratio).
CONTRASTS = """\
(root) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const over = ([r, g, b, part = 1], ground) =>
    [r, g, b].map((v, k) => v * part + ground[k] * (1 - part));
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if ((found[3] ?? 1) === 1) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of root.querySelectorAll('*')) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const behind = ground(node);
    const [a, b] = [light(over(parse(getComputedStyle(node).color), behind)), light(behind)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.className} ${node.textContent}: ${ratio.toFixed(1)}`);
  }
  return poor;
}
"""


CELLS = {
    "everything": "SafeView(everything)",
    "keys": "SafeView(everything)",
    "spoken": "SafeView(everything)",
    "filter": "SafeView(everything)",
    "locked": "SafeView(lambda: without_vault(LOCKED))",
    "absent": "SafeView(lambda: without_vault(ABSENT))",
    "damaged": "SafeView(lambda: without_vault(DAMAGED))",
    "markup": """\
row = secret(MARKUP, SecretClass.INJECT, shares=(Share(MARKUP),), public=MARKUP)
member = Member(UserId(MARKUP), Role.STUDENT, (MARKUP,))
audit = dataclasses.replace(everything().audit, fault=MARKUP)
SafeView(lambda: everything(secrets=(row,), members=(member,), audit=audit))
""",
    "refresh": """\
from jupyter_aios.errors import UnavailableError
told = [everything(), everything(2), without_vault(LOCKED)]
def read():
    if not told:
        raise UnavailableError("the controller does not answer", hint="%aios doctor")
    return told.pop(0)
SafeView(read)
""",
}


@pytest.fixture(scope="module")
def sheet(lab: Lab, chromium: Browser) -> Iterator[Sheet]:
    """Open one notebook for the file's tests: each runs a cell of its own."""
    desk = Desk(chromium, lab)
    opened = desk.sheet("safe.ipynb", SETUP, *CELLS.values())
    opened.finish(0)
    yield opened
    desk.clear()


def shown(sheet: Sheet, name: str) -> Locator:
    """Run a cell and return its view; it has gone into the saved page's place."""
    number = 1 + list(CELLS).index(name)
    view = sheet.finish(number).locator(".jp-RenderedHTMLCommon .aios[data-synced=true]")
    view.wait_for()
    view.scroll_into_view_if_needed()
    return view


def tab(view: Locator, name: str) -> Locator:
    return view.get_by_role("tab", name=re.compile(name))


def test_it_fits_and_can_be_read_in_every_theme_and_width(sheet: Sheet) -> None:
    view = shown(sheet, "everything")
    expect(view.locator(".aios-safe-chip")).to_have_text("vault open")
    expect(view.locator(".aios-safe-line")).to_contain_text("it locks in 3\u00a0h 00\u00a0min")
    view.get_by_role("button", name="CLUSTER_KEY").click()
    expect(view).to_contain_text("ssh-ed25519 AAAAC3Nza aios:CLUSTER")
    # Colours are those of the theme, whatever the width; the layout is that of the width.
    for theme, width in (
        ("contrast", 1400), ("dark", 1400), ("light", 1400), ("light", 1000), ("light", 600),
    ):  # fmt: skip
        sheet.wear(theme)
        sheet.page.set_viewport_size({"width": width, "height": 900})
        for name in ("Secrets", "Rights", "Denied"):
            tab(view, name).click()
            sheet.page.mouse.move(5, 5)
            sheet.painted()
            sheet.shot(f"safe-{theme}-{width}-{name.lower()}")
            at = f"{name} at {width} px, {theme}"
            assert sheet.page.evaluate(OVERFLOWING) == [], at
            assert view.evaluate(CONTRASTS) == [], at
    sheet.page.set_viewport_size({"width": 1400, "height": 900})
    assert sheet.complaints() == []


def test_keys_go_from_tab_to_tab_and_open_a_row(sheet: Sheet) -> None:
    view = shown(sheet, "keys")
    tab(view, "Secrets").focus()
    sheet.page.keyboard.press("ArrowRight")
    expect(view).to_have_attribute("data-tab", "Rights")
    expect(tab(view, "Rights")).to_be_focused()
    sheet.page.keyboard.press("End")
    expect(view).to_have_attribute("data-tab", "Denied")
    sheet.page.keyboard.press("ArrowRight")
    expect(view).to_have_attribute("data-tab", "Secrets")
    opener = view.get_by_role("button", name="HF_TOKEN")
    opener.focus()
    sheet.page.keyboard.press("Enter")
    expect(opener).to_have_attribute("aria-expanded", "true")
    expect(view.get_by_text("%aios secret rotate HF_TOKEN")).to_be_visible()
    sheet.page.keyboard.press(" ")
    expect(view.get_by_text("%aios secret rotate HF_TOKEN")).to_be_hidden()
    assert sheet.complaints() == []


def test_a_screen_reader_finds_tables_with_names_headings_and_figures(sheet: Sheet) -> None:
    view = shown(sheet, "spoken")
    expect(view).to_have_attribute("aria-label", "secrets and rights")
    table = view.get_by_role("table", name="secrets")
    expect(table.get_by_role("columnheader")).to_have_text(
        ["name", "owner", "class", "version", "changed", "last use", "who else may", "you"]
    )
    expect(table.get_by_role("row")).to_have_count(4)
    tab(view, "Rights").click()
    expect(view.get_by_role("tabpanel", name=re.compile("Rights"))).to_be_visible()
    quotas = view.get_by_role("table", name="members and groups with their quotas")
    row = quotas.get_by_role("row").filter(has_text=re.compile("^eve"))
    expect(row.get_by_role("cell")).to_have_text(
        ["eve", "student", "ml", "2 of 8", "0.74 of 20", "2 of 4", "2 GiB of 64 GiB", "up to 0"]
    )
    # As cards, where it is narrow, they are tables all the same.
    sheet.page.set_viewport_size({"width": 600, "height": 900})
    expect(quotas.get_by_role("columnheader")).to_have_count(8)
    sheet.page.set_viewport_size({"width": 1400, "height": 900})
    assert sheet.complaints() == []


def test_the_filter_hides_other_rows_and_counts_what_is_left(sheet: Sheet) -> None:
    view = shown(sheet, "filter")
    field = view.get_by_label("filter the rows")
    field.fill("token")
    expect(view.locator(".aios-safe-found")).to_have_text("1 of 3")
    expect(view.get_by_role("button", name="HUB")).to_be_hidden()
    tab(view, "Rights").click()
    expect(view.locator(".aios-safe-found")).to_have_text("0 of 63")
    field.fill("student-1 ml")
    expect(view.locator(".aios-safe-found")).to_have_text("10 of 63")
    field.fill("")
    expect(view.locator(".aios-safe-found")).to_have_text("")
    assert sheet.complaints() == []


@pytest.mark.parametrize(
    ("vault", "chip", "command"),
    [
        ("locked", "vault locked", "%aios unlock"),
        ("absent", "no vault yet", "%aios secret set NAME"),
        ("damaged", "vault damaged", "%aios vault restore"),
    ],
)
def test_without_an_open_vault_it_says_what_to_type(
    sheet: Sheet, vault: str, chip: str, command: str
) -> None:
    view = shown(sheet, vault)
    expect(view.locator(".aios-safe-chip")).to_have_text(chip)
    panel = view.get_by_role("tabpanel", name=re.compile("Secrets"))
    expect(panel).to_contain_text("The vault is not open, so no secrets are listed.")
    expect(panel.locator("code")).to_have_text(command)
    sheet.shot(f"safe-{vault}")
    assert sheet.complaints() == []


def test_names_are_never_markup(sheet: Sheet) -> None:
    view = shown(sheet, "markup")
    view.get_by_role("button", name=re.compile("onerror")).click()
    for name in ("Rights", "Denied"):
        tab(view, name).click()
        expect(view.get_by_role("tabpanel", name=re.compile(name))).to_contain_text("onerror")
    assert view.locator("img").count() == 0
    sheet.painted()
    assert "owned" not in sheet.page.title()
    assert sheet.complaints() == []


def test_refresh_shows_what_has_changed_and_what_went_wrong(sheet: Sheet) -> None:
    view = shown(sheet, "refresh")
    expect(tab(view, "Rights")).to_contain_text("63")
    again = view.get_by_role("button", name="read it anew")
    again.focus()
    sheet.page.keyboard.press("Enter")
    expect(view).to_have_attribute("data-number", "1")
    expect(tab(view, "Rights")).to_contain_text("5")
    # It has moved into a new page's place, and whoever typed goes on typing.
    expect(again).to_be_focused()
    sheet.page.keyboard.press("Enter")
    expect(view.locator(".aios-safe-chip")).to_have_text("vault locked")
    sheet.page.keyboard.press("Enter")
    alert = view.get_by_role("alert")
    expect(alert).to_contain_text("the controller does not answer")
    expect(alert).to_contain_text("%aios doctor")
    expect(view.locator(".aios-safe-chip")).to_have_text("vault locked")
    assert sheet.complaints() == []


def test_a_list_is_the_view_of_the_real_vault_and_a_page_without_a_kernel(desk: Desk) -> None:
    sheet = desk.sheet("safe-real.ipynb", "%load_ext jupyter_aios", "%aios secret list")
    sheet.finish(0)
    view = sheet.finish(1).locator(".jp-RenderedHTMLCommon .aios[data-synced=true]")
    view.wait_for()
    expect(view.locator(".aios-safe-chip")).to_have_text("no vault yet")
    key = desk.lab.folder / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    desk.client.safe.unlock(VaultKey(KeyKind.KEY_FILE, str(key)))
    value = "planted-in-a-vault-8841"
    desk.client.safe.put_secret("PLANTED", SecretPut(wrapped(Secret(value))))
    view.get_by_role("button", name="read it anew").click()
    view.get_by_role("button", name="PLANTED").click()
    expect(view).to_contain_text("the job sees the value")
    assert value not in sheet.page.content()
    sheet.save()
    saved = (desk.lab.notebooks / sheet.name).read_text()
    assert "PLANTED" in saved
    assert value not in saved
    assert sheet.complaints() == []
    sheet.end_kernel()
    sheet.reload()
    page = sheet.output(1)
    page.scroll_into_view_if_needed()
    expect(page.locator("table").first).to_contain_text("PLANTED")
    expect(page).to_contain_text("vault open")
    sheet.shot("safe-reopened")
