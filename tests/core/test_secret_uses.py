from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.secrets import SecretUse
from jupyter_aios.core.submission import secret_faults, secret_use
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.errors import InputError

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("HF_TOKEN", SecretUse("HF_TOKEN")),
        ("HF_TOKEN:HF_TOKEN", SecretUse("HF_TOKEN", "HF_TOKEN")),
        ("ada/wandb.key", SecretUse("wandb.key", owner="ada")),
        ("ada@example.org/key:_KEY", SecretUse("key", "_KEY", "ada@example.org")),
    ],
)
def test_a_wish_is_read_as_it_is_written(text: str, use: SecretUse) -> None:
    assert secret_use(text) == use
    assert str(use) == text
    assert from_plain(SecretUse, to_plain(use)) == use


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HF=hf_Qx7tLw29", "the value of HF must not stand on a line"),
        ("HF=hf_Qx7tLw29:HF", "the value of HF must not stand on a line"),
        ("hf_Qx7tLw29+/", "a secret's name has a letter, then"),
        ("", "a secret's name has a letter, then"),
        ("9hf_Qx7tLw29", "a secret's name has a letter, then"),
        ("HF:hf_Qx7tLw29-x", "the variable for HF has letters, digits and '_'"),
        ("HF:", "there is nothing on one side of ':' or '/'"),
        ("/HF", "there is nothing on one side of ':' or '/'"),
        ("hf_Qx7tLw29\n/HF", "the owner of HF is no user's name"),
        ("hf_Qx\udce4/HF", "the owner of HF is no user's name"),
        ("HF:MASTER_ADDR", "the variable MASTER_ADDR is set by the launcher"),
        ("HF:LD_PRELOAD", "the variable LD_PRELOAD is set by the launcher"),
        ("HF:PYTHONPATH", "the variable PYTHONPATH is set by the launcher"),
        ("HF:LOCAL_RANK", "the variable LOCAL_RANK is set by the launcher"),
        ("HF:PATH", "the variable PATH is set by the launcher"),
    ],
)
def test_what_cannot_be_meant_is_told_without_what_may_be_a_value(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        secret_use(text)
    assert message in caught.value.message
    assert "hf_Qx" not in str(caught.value)


def test_no_secret_stands_where_the_launcher_or_the_loader_looks() -> None:
    for variable in ("RANK", "MASTER_PORT", "LD_PRELOAD", "PYTHONSTARTUP", "AIOS_HOME", "PATH"):
        with pytest.raises(InputError, match=f"the variable {variable} is set by the launcher"):
            secret_use(f"HF:{variable}")


def test_a_value_on_the_line_is_answered_with_the_way_that_asks_for_it() -> None:
    with pytest.raises(InputError) as caught:
        secret_use("HF=hf_Qx7tLw29")
    assert caught.value.hint == "%aios secret set HF, which asks for it; then --secret HF"


@pytest.mark.parametrize(
    ("typed", "faults"),
    [
        (["A:V", "B:V"], ["the variable V is for both A and B"]),
        (["A", "eve/A"], ["two secrets are named A: a job has one of that name"]),
        (["A", "A:V", "A:W", "ada/B"], []),
        (["LOCAL_DB:LOCAL_DB_PASSWORD", "B:RANKING", "C:PATHS"], []),
        ([f"S{n}" for n in range(101)], ["101 secrets: at most 100"]),
    ],
)
def test_wishes_are_held_against_each_other(typed: list[str], faults: list[str]) -> None:
    assert secret_faults([secret_use(text) for text in typed]) == faults


@given(NAMES, st.text(min_size=1))
def test_no_value_behind_a_name_is_ever_repeated(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        secret_use(f"{name}={'§' + value}")
    assert "§" not in str(caught.value)
