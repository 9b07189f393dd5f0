"""A job whose key was taken back: what it tries is written down, and fills no audit."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_aios.controller.ssh_agent import Client, SshAgent
from jupyter_aios.controller.ssh_keys import SigningKey

WHICH_KEYS = b"\x0b"
"""SSH_AGENTC_REQUEST_IDENTITIES: what `ssh` asks first; where there is none it gives up."""
NONE = b"\x0c\0\0\0\0"


@dataclass
class Witness:
    """Allows what it is told to, and keeps what it is told."""

    allowed: set[str] = field(default_factory=set)
    noted: list[tuple[str, str, bool]] = field(default_factory=list)
    is_full: bool = False

    def may_use(self, name: str) -> bool:
        return name in self.allowed

    def note(self, name: str, detail: str, *, is_allowed: bool) -> None:
        if self.is_full:
            raise OSError("the disk is full")
        self.noted.append((name, detail, is_allowed))


def agent_of(witness: Witness, *names: str) -> SshAgent:
    keys = {name: SigningKey.of(Ed25519PrivateKey.generate()) for name in names}
    return SshAgent(keys, may_use=witness.may_use, on_use=witness.note)


def refused(name: str) -> tuple[str, str, bool]:
    return name, "wants to log in: the key may not be used now", False


def test_a_login_without_a_key_is_written_down_once_until_the_key_is_back() -> None:
    witness = Witness(allowed={"KEY"})
    agent = agent_of(witness, "KEY")
    assert agent.answer(Client(), WHICH_KEYS) != NONE
    assert witness.noted == []
    witness.allowed.clear()
    for _ in range(5):
        assert agent.answer(Client(), WHICH_KEYS) == NONE
    assert witness.noted == [refused("KEY")]
    witness.allowed.add("KEY")
    assert agent.answer(Client(), WHICH_KEYS) != NONE
    witness.allowed.clear()
    assert agent.answer(Client(), WHICH_KEYS) == NONE
    assert witness.noted == [refused("KEY"), refused("KEY")]


def test_of_several_keys_only_those_that_are_left_out_are_written_down() -> None:
    witness = Witness(allowed={"B"})
    agent = agent_of(witness, "C", "B", "A")
    answer = agent.answer(Client(), WHICH_KEYS)
    assert int.from_bytes(answer[1:5], "big") == 1
    assert witness.noted == [refused("A"), refused("C")]


def test_looking_costs_a_job_nothing_of_its_patience_and_a_full_disk_refuses_as_well() -> None:
    witness = Witness(is_full=True)
    agent = agent_of(witness, "KEY")
    for _ in range(3):
        assert agent.answer(Client(), WHICH_KEYS) == NONE
    assert agent.refusals == 0
