from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import (
    Action,
    Actor,
    Member,
    Resource,
    Role,
    Token,
    authorise,
    shared_group,
)
from jupyter_aios.core.roles import RIGHTS, scope_of
from jupyter_aios.core.secrets import Share

ADA, BOB = UserId("ada"), UserId("bob")
TEACHER = Actor(ADA, role=Role.TEACHER, groups=("ml",))
STUDENT = Actor(ADA, role=Role.STUDENT, groups=("ml",))
ADMIN = Actor(ADA, role=Role.ADMIN)
BOBS = Resource("secret", "bob/key", BOB)

GROUPS = ("art", "ml")
ACTORS = st.builds(
    Actor,
    user=st.sampled_from([ADA, BOB]),
    role=st.sampled_from(Role),
    groups=st.sets(st.sampled_from(GROUPS)).map(tuple),
)
SHARES = st.builds(
    Share,
    to=st.sampled_from(["user:ada", "user:bob", "group:ml", "group:art"]),
    right=st.sampled_from(["use", "read"]),
)
RESOURCES = st.builds(
    Resource,
    kind=st.just("secret"),
    name=st.just("x"),
    owner=st.sampled_from([ADA, BOB]),
    group=st.sampled_from(["", *GROUPS]),
    shares=st.lists(SHARES, max_size=2).map(tuple),
)


def may(actor: Actor, action: Action, resource: Resource) -> bool:
    return authorise(actor, action, resource).is_allowed


def test_every_action_belongs_to_somebody_and_every_role_has_a_table() -> None:
    assert set(RIGHTS) == set(Role)
    for action in Action:
        assert scope_of(Role.ADMIN, action) is not None


def test_a_role_has_one_scope_for_an_action() -> None:
    for role, rights in RIGHTS.items():
        assert len({action for action, _ in rights}) == len(rights), role


def test_who_has_no_role_may_look_at_the_gallery_and_nothing_else() -> None:
    stranger = Actor(UserId("eve"))
    own = Resource("thing", "x", stranger.user)
    assert [action for action in Action if may(stranger, action, own)] == [Action.GALLERY_READ]


@given(actor=ACTORS, resource=RESOURCES)
def test_nobody_reads_a_value_but_its_owner_and_whom_they_let(
    actor: Actor, resource: Resource
) -> None:
    names = {f"user:{actor.user}", *(f"group:{group}" for group in actor.groups)}
    is_shared = any(s.right == "read" and s.to in names for s in resource.shares)
    if may(actor, Action.SECRET_READ, resource):
        assert actor.user == resource.owner or is_shared
    if actor.user != resource.owner:
        for way_there in (Action.SECRET_SET, Action.SECRET_SHARE, Action.JOB_EXECUTE):
            assert not may(actor, way_there, resource)


@given(
    actor=ACTORS,
    action=st.sampled_from([a for a in Action if a is not Action.SECRET_READ]),
    resource=RESOURCES,
)
def test_a_greater_role_may_whatever_a_lesser_one_may(
    actor: Actor, action: Action, resource: Resource
) -> None:
    roles = list(Role)
    allowed = [may(replace(actor, role=role), action, resource) for role in roles]
    assert allowed == sorted(allowed, reverse=True), (action, allowed)


def test_a_teacher_watches_and_stops_jobs_of_their_students_and_has_none_of_their_secrets() -> None:
    bob = Member(BOB, Role.STUDENT, ("art", "ml"))
    theirs = Resource("job", "mnist", BOB, shared_group(TEACHER, bob))
    assert may(TEACHER, Action.JOB_READ, theirs)
    assert may(TEACHER, Action.JOB_CANCEL, theirs)
    for action in Action:
        if action.value.startswith("secret:") or action is Action.JOB_EXECUTE:
            assert not may(TEACHER, action, theirs)
    # Not a student's business, nor that of a teacher of another group.
    assert not may(STUDENT, Action.JOB_READ, theirs)
    assert not may(replace(TEACHER, groups=("art",)), Action.JOB_READ, theirs)


@pytest.mark.parametrize("role", [Role.TEACHER, Role.ADMIN])
def test_a_teacher_does_not_stand_over_other_teachers(role: Role) -> None:
    assert shared_group(TEACHER, Member(BOB, role, ("ml",))) == ""


def test_a_group_that_the_resource_claims_is_not_enough() -> None:
    assert not may(replace(TEACHER, groups=()), Action.JOB_READ, Resource("job", "x", BOB, "ml"))
    assert not may(TEACHER, Action.JOB_READ, Resource("job", "x", BOB, ""))


@pytest.mark.parametrize(
    ("to", "right", "allowed"),
    [
        ("user:ada", "use", {Action.SECRET_LIST, Action.SECRET_USE}),
        ("group:ml", "use", {Action.SECRET_LIST, Action.SECRET_USE}),
        ("user:ada", "read", {Action.SECRET_LIST, Action.SECRET_USE, Action.SECRET_READ}),
        ("user:ad", "read", set()),
        ("group:art", "read", set()),
        ("ada", "read", set()),
        ("user:ada", "write", set()),
    ],
)
def test_a_share_gives_what_it_says(to: str, right: str, allowed: set[Action]) -> None:
    shared = replace(BOBS, shares=(Share(to, right),))
    secret_actions = [action for action in Action if action.value.startswith("secret:")]
    assert {action for action in secret_actions if may(STUDENT, action, shared)} == allowed


@pytest.mark.parametrize(
    ("actor", "action", "resource", "reason", "ask"),
    [
        (STUDENT, Action.SECRET_READ, BOBS,
         "ada (student) may not secret:read on secret 'bob/key' of bob", "bob"),
        (ADMIN, Action.SECRET_READ, BOBS,
         "ada (admin) may not secret:read on secret 'bob/key' of bob", "bob"),
        (Actor(ADA), Action.JOB_SUBMIT, Resource("jobs", "", ADA),
         "ada (guest) may not job:submit on jobs of their own", "an admin for the role student"),
        (STUDENT, Action.GALLERY_PUBLISH, Resource("gallery", "x", ADA),
         "ada (student) may not gallery:publish on gallery 'x' of their own",
         "an admin for the role teacher"),
        (STUDENT, Action.ROLE_GRANT, Resource("members", "", UserId("root")),
         "ada (student) may not role:grant on members of root", "root"),
    ],
)  # fmt: skip
def test_a_denial_says_who_what_whose_and_whom_to_ask(
    actor: Actor, action: Action, resource: Resource, reason: str, ask: str
) -> None:
    decision = authorise(actor, action, resource)
    assert (decision.is_allowed, decision.reason, decision.ask) == (False, reason, ask)


@pytest.mark.parametrize(
    ("actor", "resource", "reason"),
    [
        (STUDENT, Resource("job", "x", ADA), "student, own"),
        (ADMIN, Resource("job", "x", BOB), "admin, anybody's"),
        (TEACHER, Resource("job", "x", BOB, "ml"), "teacher, group ml"),
    ],
)
def test_what_is_allowed_says_why(actor: Actor, resource: Resource, reason: str) -> None:
    assert authorise(actor, Action.JOB_READ, resource).reason == reason


def test_a_token_ends_at_its_time_and_when_it_is_revoked() -> None:
    token = Token("a", "0" * 64, ADA, created_at=1.0, expires_at=2.0)
    assert token.is_valid(now=1.999)
    assert not token.is_valid(now=2.0)
    assert not replace(token, revoked_at=0.5).is_valid(now=1.5)


def test_nobody_but_an_admin_sets_a_quota_not_even_their_own() -> None:
    own = Resource("quota", "user:ada", ADA)
    taught = Resource("quota", "user:bob", BOB, "ml")
    assert not may(TEACHER, Action.QUOTA_SET, own)
    assert not may(TEACHER, Action.QUOTA_SET, taught)
    assert may(TEACHER, Action.QUOTA_READ, taught)
    assert may(ADMIN, Action.QUOTA_SET, own)
