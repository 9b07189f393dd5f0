"""The policy against an oracle: Cedar, with policies that were written by hand from the docs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cedarpy

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import (
    Action,
    Actor,
    ActorKind,
    Member,
    Resource,
    Role,
    authorise,
    shared_group,
)
from jupyter_aios.core.secrets import Share

POLICIES = cedarpy.PolicySet.from_str((Path(__file__).parent / "policy.cedar").read_text())
GROUPS = ("art", "ml", "physics")
PEOPLE, THINGS, CASES_PER_WORLD = 8, 40, 500


@dataclass(frozen=True)
class Thing:
    """Something that somebody owns and has perhaps shared."""

    name: str
    owner: Member
    shares: tuple[Share, ...]


def make_people(draw: random.Random) -> list[Member]:
    return [
        Member(
            UserId(f"u{number}"),
            draw.choice(list(Role)),
            tuple(draw.sample(GROUPS, draw.choice((0, 0, 1, 1, 2, 3)))),
        )
        for number in range(PEOPLE)
    ]


def make_things(draw: random.Random, people: list[Member]) -> list[Thing]:
    names = [f"user:{one.user}" for one in people] + [f"group:{group}" for group in GROUPS]
    return [
        Thing(
            f"t{number}",
            draw.choice(people),
            tuple(
                Share(draw.choice(names), draw.choice(("use", "read")))
                for _ in range(draw.choice((0, 0, 0, 1, 2)))
            ),
        )
        for number in range(THINGS)
    ]


def entity_of_person(one: Member) -> dict[str, Any]:
    names = [f"user:{one.user}", *(f"group:{group}" for group in one.groups)]
    attributes = {"role": one.role.value, "groups": list(one.groups), "names": names}
    return {"uid": {"type": "User", "id": one.user}, "attrs": attributes, "parents": []}


def entity_of_thing(thing: Thing) -> dict[str, Any]:
    attributes = {
        "owner": {"__entity": {"type": "User", "id": thing.owner.user}},
        "owner_role": thing.owner.role.value,
        "owner_groups": list(thing.owner.groups),
        "use_with": [share.to for share in thing.shares if share.right == "use"],
        "read_with": [share.to for share in thing.shares if share.right == "read"],
    }
    return {"uid": {"type": "Thing", "id": thing.name}, "attrs": attributes, "parents": []}


def is_allowed_by_us(one: Member, action: Action, thing: Thing, kind: ActorKind) -> bool:
    actor = Actor(one.user, kind, one.role, one.groups)
    group = shared_group(actor, thing.owner)
    resource = Resource("thing", thing.name, thing.owner.user, group, thing.shares)
    return authorise(actor, action, resource).is_allowed


def compare(worlds: int, seed: int) -> int:
    """Hold both to each other in that many worlds and return how many cases were allowed."""
    draw = random.Random(seed)
    allowed = 0
    for _ in range(worlds):
        people = make_people(draw)
        things = make_things(draw, people)
        cases = [
            (draw.choice(people), draw.choice(list(Action)), draw.choice(things))
            for _ in range(CASES_PER_WORLD)
        ]
        answers = cedarpy.is_authorized_batch(
            [
                {
                    "principal": {"type": "User", "id": one.user},
                    "action": {"type": "Action", "id": action.value},
                    "resource": {"type": "Thing", "id": thing.name},
                    "context": {},
                }
                for one, action, thing in cases
            ],
            POLICIES,
            [*map(entity_of_person, people), *map(entity_of_thing, things)],
        )
        for (one, action, thing), answer in zip(cases, answers, strict=True):
            assert not answer.diagnostics.errors
            kind = draw.choice(list(ActorKind))
            ours = is_allowed_by_us(one, action, thing, kind)
            assert ours == answer.allowed, (one, action, thing)
            allowed += ours
    return allowed


def test_the_policy_decides_as_cedar_does_in_20_000_cases() -> None:
    # Neither all nor nothing: an oracle that denies everything would be easy to agree with.
    assert 3_000 < compare(worlds=40, seed=1) < 17_000
