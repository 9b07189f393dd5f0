"""The fetch proxy: a secret is sent where its owner said, and the job never has it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.controller.fetching import FetchProxy, asking, guard, parse_target
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError, LockedError, StorageError
from tests.controller.hub import (
    VALUE,
    Authority,
    Desk,
    Hub,
    ask,
    blob,
    call,
    derived,
    hub,
    proxy_to,
    send_raw,
)
from tests.controller.rig import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "•••HUB•••"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


@pytest.fixture
def plain() -> Iterator[Hub]:
    """Give a hub on this machine without TLS."""
    with hub() as running:
        yield running


@pytest.fixture
def secure(authority: Authority) -> Iterator[Hub]:
    with hub(authority.context("127.0.0.1", "localhost")) as running:
        yield running


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def path(plain: Hub, desk: Desk) -> Iterator[Path]:
    """Give the socket of a proxy to the plain hub."""
    with proxy_to(desk, HUB=plain.url()) as proxy:
        yield proxy.path


def fetch_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("aios-fetch-")]


# ---------------------------------------------------------------- what it is there for


def test_a_request_goes_to_the_target_over_tls_with_the_value_and_its_answer_comes_back(
    secure: Hub, desk: Desk
) -> None:
    with proxy_to(desk, HUB=secure.url("localhost")) as proxy:
        reply = ask(proxy.path, "/HUB/blob/3000?rev=2")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (200, blob(3000), '"3000"')
    (seen,) = secure.seen
    assert (seen.method, seen.path) == ("GET", "/api/blob/3000?rev=2")
    assert seen.header("Authorization") == [f"Bearer {VALUE}"]
    assert seen.header("Host") == [f"localhost:{secure.port}"]


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_arrives_whole(path: Path, plain: Hub, method: str, is_chunked: bool) -> None:  # noqa: FBT001
    body = blob(300_000)
    reply = ask(path, "/HUB/digest", method, body, {"X-Own": "1"}, is_chunked=is_chunked)
    assert reply.body.decode() == hashlib.sha256(body).hexdigest()
    assert plain.seen[0].method == method
    assert plain.seen[0].header("X-Own") == ["1"]


def test_a_head_request_tells_the_length_and_has_no_body(path: Path) -> None:
    reply = ask(path, "/HUB/blob/3000", "HEAD")
    assert (reply.status, reply.headers["Content-Length"], reply.body) == (200, "3000", b"")


def test_curl_needs_nothing_but_the_socket(path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")
    body = blob(2_000_000)
    # So large a body waits for "100 Continue".
    done = subprocess.run(
        [curl, "-sS", "--unix-socket", path, "--data-binary", "@-", "http://aios/HUB/digest"],
        input=body,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.decode() == hashlib.sha256(body).hexdigest()


def test_an_answer_is_handed_on_as_it_comes(path: Path, plain: Hub) -> None:
    with call(path) as connection:
        connection.sendall(b"GET /HUB/talk HTTP/1.1\r\nHost: aios\r\n\r\n")
        heard = b""
        # The hub waits for the gate now: without this the read below would time out.
        while b"one " not in heard:
            heard += connection.recv(1000)
        assert b"two" not in heard
        plain.gate.set()
        while piece := connection.recv(1000):
            heard += piece
    # Its last letter may begin the value in some spelling: it comes by itself.
    assert heard.endswith(b"2\r\ntw\r\n1\r\no\r\n0\r\n\r\n")


def test_a_client_of_http_1_0_gets_no_chunks(path: Path) -> None:
    answer = send_raw(path, b"GET /HUB/blob/100 HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == blob(100)


def test_twenty_downloads_at_once_are_whole(secure: Hub, desk: Desk) -> None:
    size = 5_000_000
    with proxy_to(desk, HUB=secure.url()) as proxy, ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: ask(proxy.path, f"/HUB/blob/{size}"), range(20)))
    assert {hashlib.sha256(reply.body).digest() for reply in replies} == {
        hashlib.sha256(blob(size)).digest()
    }
    assert len(desk.uses) == 20


# ---------------------------------------------------------------- the value stays with its target


LEAVING = [
    "/HUB/..",
    "/HUB/../admin",
    "/HUB/a/../../admin",
    "/HUB/.",
    "/HUB/./a",
    "/HUB//admin",
    "/HUB/a//b",
    "//HUB/a",
    "/HUB/%2e%2e/admin",
    "/HUB/.%2E/admin",
    "/HUB/%252e%252e/admin",
    "/HUB/%25252e%25252e/admin",
    "/HUB/a%2f..%2f..%2fadmin",
    "/HUB/%2fadmin",
    "/HUB/..;/admin",
    "/HUB/..;x=1/admin",
    "/HUB/%20../admin",
    "/HUB/%c0%ae%c0%ae/admin",
    "/HUB/%ef%bc%8e%ef%bc%8e/admin",
    "/HUB/%e2%80%a5/admin",
    "/HUB/..\\admin",
    "/HUB/a%5c..%5cadmin",
    "/HUB/a%00",
    "/HUB/a%0d%0aX-Evil:1",
    "/HUB/a%zz",
    "/HUB/a#fragment",
    "/HUB/a?q#fragment",
    "/HUB/ä",
    "/HUB@evil.example/a",
    "/%48UB/a",
    "/HUB%2fa",
    "http://evil.example/",
    "https://user:pw@evil.example/HUB/a",
    "HUB/a",
    "*",
    "evil.example:443",
    "@evil.example/",
    "/",
    "?",
]


@pytest.mark.parametrize("target", LEAVING)
def test_a_path_that_may_leave_the_target_is_refused_before_anything_is_sent(
    path: Path, plain: Hub, desk: Desk, target: str
) -> None:
    answer = send_raw(path, f"GET {target} HTTP/1.1\r\nHost: aios\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Aios-Error: InputError" in answer
    assert not plain.seen
    assert not desk.revealed


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/HUB", "/api"),
        ("/HUB/", "/api/"),
        ("/HUB/blob/", "/api/blob/"),
        ("/HUB/a%2Fb/100%25.txt", "/api/a%2Fb/100%25.txt"),
        ("/HUB/..a/b../...", "/api/..a/b../..."),
        ("/HUB/~x/a;v=1/b:c@d", "/api/~x/a;v=1/b:c@d"),
        ("/HUB/a?to=../..//%2e%2e", "/api/a?to=../..//%2e%2e"),
        ("/HUB/%E2%82%AC", "/api/%E2%82%AC"),
    ],
)
def test_an_unusual_path_below_the_target_is_sent_as_it_is(
    path: Path, plain: Hub, asked: str, sent: str
) -> None:
    ask(path, asked)
    assert [seen.path for seen in plain.seen] == [sent]


@pytest.mark.parametrize(
    ("method", "said"), [("TRACE", "the method TRACE"), ("CONNECT", "CONNECT"), ("get", "get")]
)
def test_a_method_that_is_no_plain_request_is_refused(
    path: Path, plain: Hub, method: str, said: str
) -> None:
    reply = ask(path, "/HUB/echo", method)
    assert reply.status == 400
    assert said in reply.body.decode()
    assert not plain.seen


def test_a_secret_that_the_job_did_not_ask_for_is_unknown(path: Path, desk: Desk) -> None:
    reply = ask(path, "/HUP/blob/1")
    assert (reply.status, reply.headers["Aios-Error"]) == (404, "UnknownNameError")
    assert "did you mean HUB?" in reply.body.decode()
    assert not desk.revealed


def test_a_redirect_is_handed_back_and_the_other_server_never_sees_the_value(
    path: Path, plain: Hub
) -> None:
    with hub() as other:
        plain.elsewhere = f"{other.url()}/blob/10"
        reply = ask(path, "/HUB/moved")
        assert reply.status == 302
        assert reply.headers["Location"] == f"{other.url()}/blob/10?signature=abc"
        assert not other.seen
    assert len(plain.seen) == 1


def test_two_secrets_go_to_their_own_targets_only(plain: Hub, desk: Desk) -> None:
    with hub() as other, proxy_to(desk, HUB=plain.url(), LAKE=other.url()) as proxy:
        ask(proxy.path, "/HUB/blob/1")
        ask(proxy.path, "/LAKE/blob/2")
        assert [seen.path for seen in plain.seen] == ["/api/blob/1"]
        assert [seen.path for seen in other.seen] == ["/api/blob/2"]


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("http://hub.school/api", "only https"),
        ("http://127.0.0.1.evil.example/", "only https"),
        ("ftp://hub.school", "only https"),
        ("hub.school/api", "no scheme"),
        ("https://", "is no host"),
        ("https://-x.school", "is no host"),
        ("https://me:pw@hub.school", "password before the host"),
        ("http://127.0.0.1@evil.example", "password before the host"),
        ("https://hub.school/api?x=1", "a query or a fragment"),
        ("https://hub.school/api?", "a query or a fragment"),
        ("https://hub.school/api#x", "a query or a fragment"),
        ("https://hub.school/api/../admin", "the path"),
        ("https://hub.school/%2e%2e/admin", "the path"),
        ("https://hub.school/a//b", "the path"),
        ("https://hub.school:0/", "port 0"),
        ("https://hub.school:99999/", "no URL"),
        ("https://[fe80::1%25eth0]/", "is no host"),
        ("https://[::1/", "no URL"),
        ("https://hub.school/\r\nX: 1", "no URL has"),
        ("https://hub.school\\@evil.example/", "no URL has"),
        ("https://hüb.school/", "no URL has"),
        ("", "no URL has"),
    ],
)
def test_a_target_that_no_secret_may_go_to_is_refused(target: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        parse_target(target)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize(
    ("address", "is_forbidden"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("0.0.0.0", True),  # noqa: S104 - an address like others here
        ("::", True),
        ("224.0.0.1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("93.184.216.34", False),
        ("64:ff9b::5db8:d822", False),
        ("2606:2800:220:1::1", False),
    ],
)
def test_link_local_addresses_are_no_targets(address: str, is_forbidden: bool) -> None:  # noqa: FBT001
    assert guard.is_forbidden_address(address, is_tls=True) is is_forbidden


@pytest.mark.parametrize("address", ["10.1.2.3", "93.184.216.34", "169.254.169.254", "fd00::1"])
def test_without_tls_the_value_does_not_leave_this_machine(address: str) -> None:
    assert guard.is_forbidden_address(address, is_tls=False)
    assert not guard.is_forbidden_address("127.0.0.1", is_tls=False)
    assert not guard.is_forbidden_address("::1", is_tls=False)


def test_a_target_with_a_link_local_address_is_refused_without_a_connection(desk: Desk) -> None:
    with proxy_to(desk, CLOUD="https://169.254.169.254/latest") as proxy:
        reply = ask(proxy.path, "/CLOUD/meta-data")
    assert (reply.status, reply.headers["Aios-Error"]) == (403, "DeniedError")
    assert "169.254.169.254, where no secret is sent" in reply.body.decode()


def test_a_name_that_leads_to_a_link_local_address_is_refused_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, *args: int, **options: int) -> object:
        # What the attacker's name server would say.
        return real("169.254.169.254" if host == "hub.school" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with proxy_to(desk, HUB="https://hub.school") as proxy:
        assert ask(proxy.path, "/HUB/x").status == 403


def test_a_certificate_of_an_unknown_authority_gets_no_request(tmp_path: Path, desk: Desk) -> None:
    stranger = Authority(tmp_path).context("127.0.0.1")
    with hub(stranger) as wrong, proxy_to(desk, HUB=wrong.url()) as proxy:
        reply = ask(proxy.path, "/HUB/blob/1")
        assert not wrong.seen
    assert (reply.status, reply.headers["Aios-Error"]) == (502, "UnavailableError")
    assert "is not trusted" in reply.body.decode()
    assert "SSL_CERT_FILE" in reply.body.decode()


def test_a_certificate_of_another_name_gets_no_request(authority: Authority, desk: Desk) -> None:
    with hub(authority.context("other.school")) as wrong:
        with proxy_to(desk, HUB=wrong.url("localhost")) as proxy:
            reply = ask(proxy.path, "/HUB/blob/1")
        assert not wrong.seen
    assert "is not trusted" in reply.body.decode()


# ---------------------------------------------------------------- headers and framing


def test_headers_of_the_job_cannot_stand_in_for_ours(path: Path, plain: Hub) -> None:
    dropped = {
        "Authorization": "Basic x",
        "Cookie": "a=1",
        "Host": "evil.example",
        "Proxy-Authorization": "x",
        "Proxy-Connection": "keep-alive",
        "Forwarded": "for=1.2.3.4",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Real-IP": "127.0.0.1",
        "X-Original-URL": "/admin",
        "X_Original_URL": "/admin",
        "X-Rewrite-URL": "/admin",
        "X-HTTP-Method-Override": "DELETE",
        "Accept-Encoding": "gzip",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Keep-Alive": "300",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
    }
    passed = {"User-Agent": "me/1", "X-GitHub-Api-Version": "2022-11-28", "Range": "bytes=0-9"}
    assert ask(path, "/HUB/blob/1", headers=dropped | passed).status == 200
    (seen,) = plain.seen
    assert dict(seen.headers) == passed | {
        "Host": f"127.0.0.1:{plain.port}",
        "Authorization": f"Bearer {VALUE}",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    assert len(seen.headers) == 7


CHUNKED = b"POST /HUB/digest HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = {
    "two lengths": b"POST /HUB/digest HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two equal lengths": b"PUT /HUB/x HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "length and chunks": CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length in disguise": CHUNKED[:-2] + b"Content_Length: 5\r\n\r\n",
    "signed length": b"POST /HUB/digest HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
    "lengths in a list": b"POST /HUB/digest HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
    "hexadecimal length": b"POST /HUB/digest HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
    "chunked twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    "another coding": b"POST /HUB/x HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "coding with a tab": b"POST /HUB/x HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /HUB/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "folded header": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A: 1\r\n X-B: 2\r\n\r\n",
    "bare line feed": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A: 1\nX-B: 2\r\n\r\n",
    "bare carriage return": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A: 1\rX-B: 2\r\n\r\n",
    "line feed in the first line": b"GET /HUB/blob/1\nX: y HTTP/1.1\r\n\r\n",
    "zero byte": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A: 1\x002\r\n\r\n",
    "space before the colon": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A : 1\r\n\r\n",
    "no colon": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A\r\n\r\n",
    "no name": b"GET /HUB/blob/1 HTTP/1.1\r\n: x\r\n\r\n",
    "two targets": b"GET /HUB/blob/1 /HUB/blob/2 HTTP/1.1\r\n\r\n",
    "no version": b"GET /HUB/blob/1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/1.2": b"GET /HUB/blob/1 HTTP/1.2\r\n\r\n",
    "an empty line first": b"\r\nGET /HUB/blob/1 HTTP/1.1\r\n\r\n",
    "a long head": b"GET /HUB/blob/1 HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_is_not_plainly_one_request_is_refused_before_anything_is_sent(
    path: Path, plain: Hub, desk: Desk, name: str
) -> None:
    answer = send_raw(path, SMUGGLED[name])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not plain.seen
    assert not desk.revealed


BAD_CHUNKS = {
    "no size": b"x\r\n",
    "signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "longer than it says": b"3\r\nhello\r\n0\r\n\r\n",
    "a size without end": b"1" * 9000,
    "trailers without end": b"0\r\n" + b"X: 1\r\n" * 20,
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_chunks_that_are_none_never_become_a_whole_request(
    path: Path, plain: Hub, desk: Desk, name: str
) -> None:
    answer = send_raw(path, CHUNKED + BAD_CHUNKS[name])
    assert answer.startswith(b"HTTP/1.1 400 ")
    wait_for(lambda: plain.broken == ["/api/digest"])
    assert desk.uses == [f"HUB: POST 127.0.0.1:{plain.port}/api/digest → no answer"]


def test_a_second_request_in_the_same_bytes_is_not_sent(path: Path, plain: Hub) -> None:
    one = b"GET /HUB/blob/%d HTTP/1.1\r\nHost: aios\r\n\r\n"
    answer = send_raw(path, one % 1 + one % 2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [seen.path for seen in plain.seen] == ["/api/blob/1"]


def test_a_body_over_the_limit_is_refused_before_anything_is_sent(path: Path, plain: Hub) -> None:
    size = asking.MAX_BODY_BYTES + 1
    head = f"POST /HUB/digest HTTP/1.1\r\nContent-Length: {size}\r\n\r\n"
    answer = send_raw(path, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert not plain.seen


def test_chunks_over_the_limit_never_become_a_whole_request(
    path: Path, plain: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_BODY_BYTES", 100_000)
    reply = ask(path, "/HUB/digest", "POST", blob(200_000), is_chunked=True)
    assert (reply.status, reply.headers["Aios-Error"]) == (413, "CapacityError")
    wait_for(lambda: plain.broken == ["/api/digest"])


@pytest.mark.parametrize("value", [f"{VALUE}\r\nX-Evil: 1", f"{VALUE}\nX", "\x00\x01\x02secret"])
def test_a_value_that_would_add_headers_is_not_sent_and_not_shown(
    path: Path, plain: Hub, desk: Desk, value: str
) -> None:
    desk.value = Secret(value)
    reply = ask(path, "/HUB/blob/1")
    assert (reply.status, reply.headers["Aios-Error"]) == (409, "StateError")
    assert VALUE not in reply.body.decode()
    assert not plain.seen


def test_the_line_end_of_a_value_from_a_file_is_no_part_of_it(path: Path, desk: Desk) -> None:
    desk.value = Secret(f"{VALUE}\n")
    assert ask(path, "/HUB/blob/1").status == 200
    assert VALUE not in ask(path, "/HUB/echo").body.decode()


# ---------------------------------------------------------------- the way back


def test_a_server_that_echoes_the_request_does_not_tell_the_job_the_value(path: Path) -> None:
    reply = ask(path, "/HUB/echo")
    assert json.loads(reply.body)["Authorization"] == f"Bearer {MARK}"
    assert reply.headers["X-Echo"].encode("latin-1").decode() == f"Bearer {MARK}"


@pytest.mark.parametrize("padding", ["", "x", "xy"])
def test_an_echo_in_base64_does_not_either(path: Path, padding: str) -> None:
    body = ask(path, f"/HUB/echo64/{padding}").body
    assert MARK.encode() in body
    spelt = base64.b64encode(f"{padding}Bearer {VALUE}".encode())
    assert spelt[-24:-8] not in body


def test_an_echo_in_pieces_does_not_either(path: Path) -> None:
    assert ask(path, "/HUB/drip").body.decode() == f"Bearer {MARK}"


def test_a_value_too_short_to_be_found_in_an_echo_is_not_sent(
    path: Path, plain: Hub, desk: Desk
) -> None:
    desk.value = Secret("abc12")
    reply = ask(path, "/HUB/echo")
    assert reply.status == 409
    assert "abc12" not in reply.body.decode()
    assert not plain.seen


def test_an_answer_that_cannot_be_searched_is_not_handed_on(path: Path) -> None:
    reply = ask(path, "/HUB/packed")
    assert reply.status == 502
    assert "Content-Encoding: 'gzip', which nobody asked for" in reply.body.decode()


def test_cookies_and_challenges_stay_with_the_controller(path: Path, desk: Desk) -> None:
    reply = ask(path, "/HUB/cookie")
    assert (reply.status, reply.body) == (200, b"sweet")
    # Nor does a target speak in the controller's name.
    assert not {"Set-Cookie", "Aios-Error"} & set(reply.headers)
    desk.value = Secret("another-value")
    reply = ask(path, "/HUB/blob/1")
    assert (reply.status, reply.body) == (401, b"who are you?")
    assert "WWW-Authenticate" not in reply.headers


def test_an_answer_that_breaks_off_does_not_look_whole(path: Path) -> None:
    answer = send_raw(path, b"GET /HUB/short HTTP/1.1\r\nHost: aios\r\n\r\n")
    assert b"only this" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_an_answer_that_comes_before_the_body_is_read_arrives(path: Path) -> None:
    reply = ask(path, "/HUB/full", "POST", blob(8_000_000))
    assert (reply.status, reply.body) == (507, b"no room")


def test_a_target_that_is_not_there_is_told(desk: Desk) -> None:
    with hub() as gone:
        url = gone.url()
    with proxy_to(desk, HUB=url) as proxy:
        reply = ask(proxy.path, "/HUB/x")
    assert (reply.status, reply.headers["Aios-Error"]) == (502, "UnavailableError")
    assert desk.uses == []


# ---------------------------------------------------------------- policy and audit


def test_a_revoked_right_is_denied_at_the_next_request(path: Path, plain: Hub, desk: Desk) -> None:
    assert ask(path, "/HUB/blob/1").status == 200
    desk.may = False
    reply = ask(path, "/HUB/blob/2")
    assert (reply.status, reply.headers["Aios-Error"]) == (403, "DeniedError")
    assert "ask teacher" in reply.body.decode()
    assert [seen.path for seen in plain.seen] == ["/api/blob/1"]
    assert desk.revealed == 1


def test_a_vault_that_was_locked_meanwhile_is_told(path: Path, plain: Hub, desk: Desk) -> None:
    desk.value = LockedError("the vault is locked", hint="%aios unlock")
    reply = ask(path, "/HUB/blob/1")
    assert (reply.status, json.loads(reply.body)) == (
        423,
        {"kind": "LockedError", "message": "the vault is locked", "hint": "%aios unlock"},
    )
    assert not plain.seen


def test_each_use_is_written_down_without_its_query(path: Path, plain: Hub, desk: Desk) -> None:
    ask(path, "/HUB/blob/1?token=abc")
    ask(path, "/HUB/status/503", "POST", b"x")
    where = f"127.0.0.1:{plain.port}/api"
    assert desk.uses == [f"HUB: GET {where}/blob/1 → 200", f"HUB: POST {where}/status/503 → 503"]


def test_an_answer_that_cannot_be_written_down_is_not_handed_on(path: Path, desk: Desk) -> None:
    desk.audit_fault = StorageError("the disk is full", hint="make room")
    reply = ask(path, "/HUB/blob/100")
    assert (reply.status, reply.headers["Aios-Error"]) == (500, "StorageError")
    assert blob(100) not in reply.body


def test_a_fault_of_the_controller_is_told_without_its_words(path: Path, desk: Desk) -> None:
    desk.value = RuntimeError(f"it held {VALUE}")
    reply = ask(path, "/HUB/blob/1")
    assert reply.status == 500
    assert "internal error in the controller (RuntimeError)" in reply.body.decode()
    assert VALUE not in reply.body.decode()


# ---------------------------------------------------------------- socket, threads, ends


def test_the_socket_is_for_its_user_alone_and_goes_with_the_proxy(plain: Hub, desk: Desk) -> None:
    with proxy_to(desk, HUB=plain.url()) as proxy:
        assert stat.S_IMODE(proxy.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(proxy.path.parent.stat().st_mode) == 0o700
        proxy.close()
        assert not proxy.path.exists()
        proxy.close()
    assert not fetch_threads()


@pytest.mark.parametrize("fault", ["open", "link"])
def test_a_folder_that_others_can_enter_gets_no_socket(
    desk: Desk, fault: str, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="aios-fetch-"))
    try:
        inner = folder / "x"
        if fault == "open":
            inner.mkdir()
            inner.chmod(0o711)
        else:
            inner.symlink_to(tmp_path)
        proxy = made(inner / "fetch.sock", desk)
        with pytest.raises(StorageError, match="is not this user's alone"):
            proxy.start()
        assert not (inner / "fetch.sock").exists()
    finally:
        shutil.rmtree(folder)


def made(path: Path, desk: Desk, target: str = "https://hub.school") -> FetchProxy:
    return FetchProxy(
        path,
        {"HUB": derived("HUB", target)},
        value_of=desk.value_of,
        may_use=desk.may_use,
        on_use=desk.on_use,
    )


def test_a_path_too_long_for_a_socket_and_a_bad_target_are_refused_at_once(desk: Desk) -> None:
    with pytest.raises(InputError, match="has 109 bytes, a socket's path at most 100"):
        made(Path("/tmp") / ("x" * 104), desk)  # noqa: S108 - nothing is made there
    with pytest.raises(InputError, match="only https"):
        made(Path("/tmp/x"), desk, "http://hub.school")  # noqa: S108


def test_what_a_killed_controller_left_is_replaced(plain: Hub, desk: Desk) -> None:
    with proxy_to(desk, HUB=plain.url()) as proxy:
        proxy.close()
        left = socket.socket(socket.AF_UNIX)
        with contextlib.closing(left):
            left.bind(str(proxy.path))
        again = made(proxy.path, desk, plain.url())
        again.start()
        with contextlib.closing(again):
            assert ask(again.path, "/HUB/blob/1").status == 200


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_the_end_of_the_job_ends_its_requests(
    desk: Desk, kind: str, request: pytest.FixtureRequest
) -> None:
    server: Hub = request.getfixturevalue(kind)
    with proxy_to(desk, HUB=server.url()) as proxy, call(proxy.path) as waiting:
        waiting.sendall(b"GET /HUB/wait HTTP/1.1\r\nHost: aios\r\n\r\n")
        with call(proxy.path) as silent:
            wait_for(lambda: server.at_gate == 1 and len(fetch_threads()) == 3)
            proxy.close()
            assert not fetch_threads()
            assert waiting.recv(1000) == b""
            assert silent.recv(1000) == b""


def test_a_client_that_hangs_up_leaves_no_thread_and_no_connection(path: Path, plain: Hub) -> None:
    with call(path) as connection:
        connection.sendall(b"GET /HUB/endless HTTP/1.1\r\nHost: aios\r\n\r\n")
        assert connection.recv(100_000)
    wait_for(lambda: plain.broken == ["/api/endless"] and len(fetch_threads()) == 1)
    with call(path) as connection:
        connection.sendall(b"POST /HUB/digest HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    wait_for(lambda: "/api/digest" in plain.broken and len(fetch_threads()) == 1)
    assert ask(path, "/HUB/blob/1").status == 200


def test_a_client_that_says_nothing_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "HEAD_DEADLINE_S", 0.05)
    with call(path) as connection:
        connection.settimeout(3)
        connection.sendall(b"GET /HUB")
        assert connection.recv(1000) == b""


def test_a_slow_request_blocks_neither_its_own_job_nor_another(
    path: Path, plain: Hub, desk: Desk
) -> None:
    with call(path) as slow:
        slow.sendall(b"GET /HUB/wait HTTP/1.1\r\nHost: aios\r\n\r\n")
        wait_for(lambda: plain.at_gate == 1)
        assert ask(path, "/HUB/blob/1").status == 200
        with proxy_to(desk, HUB=plain.url()) as other:
            assert ask(other.path, "/HUB/blob/1").status == 200
        plain.gate.set()
        assert slow.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_at_most_64_requests_are_answered_at_once_and_the_next_one_waits(
    path: Path, plain: Hub
) -> None:
    with ThreadPoolExecutor(64) as pool:
        replies = [pool.submit(ask, path, "/HUB/wait") for _ in range(64)]
        wait_for(lambda: plain.at_gate == 64)
        with call(path) as late:
            # It would be answered at once: no server is needed to refuse it.
            late.sendall(b"nonsense\r\n\r\n")
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.recv(1000)
            plain.gate.set()
            late.settimeout(20)
            assert late.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert {reply.result().body for reply in replies} == {b"at last"}


# ---------------------------------------------------------------- a real client process


CLIENT = """
import sys
import jupyter_aios as aios
body = aios.fetch("blob/4099", secret="HUB")
echo = aios.fetch("echo", secret="HUB")
echo64 = aios.fetch("echo64/", secret="HUB")
print("ready", flush=True)
sys.stdin.read()
"""


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield what a process of ours holds: all it can write to."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            with contextlib.suppress(OSError):
                memory.seek(begin)
                yield memory.read(end - begin)


@pytest.fixture
def client(path: Path) -> Iterator[int]:
    """Give the pid of a process that has fetched, and holds what it got."""
    environment = {**os.environ, "AIOS_FETCH_SOCKET": str(path)}
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
def test_the_value_is_nowhere_in_the_client_s_process(client: int) -> None:
    encoded = base64.b64encode(f"Bearer {VALUE}".encode())[12:-4]
    pages = list(memory_of(client))

    def found(needle: bytes) -> bool:
        return any(needle in page for page in pages)

    # What it fetched is there, so this looks in the right place.
    assert found(blob(4099))
    assert found(f"Bearer {MARK}".encode())
    assert not found(VALUE.encode())
    assert not found(encoded)
    for name in ("environ", "cmdline"):
        assert VALUE.encode() not in Path(f"/proc/{client}/{name}").read_bytes()
