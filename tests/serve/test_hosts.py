"""Hosts: which `Host` headers are answered, and on which addresses a server without a key listens."""

from __future__ import annotations

import socket

import pytest
from alterbute.errors import InputError
from alterbute.serve.edge.hosts import is_loopback, parse_host_rules
from alterbute.serve.settings import ServerSettings

from tests.support.asgi import KEY, app_of, call
from tests.support.serving import RunningServer

# Host header, and the status without an API key: 200 only for this machine, 400 for what is no host.
HOSTS: list[tuple[str, int]] = [
    *[(host, 200) for host in ("localhost", "LOCALHOST", "LocalHost:8000", "localhost.", "localhost.:8000", "localhost:")],
    *[(host, 200) for host in ("127.0.0.1", "127.0.0.1:8000", "127.0.0.1:0", "127.255.255.254", "127.1.2.3:65535")],
    *[(host, 200) for host in ("[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[0000::0001]:80")],
    *[(host, 403) for host in ("127.evil.com", "127.0.0.1.evil.com", "127.0.0.1.evil.com:8000", "127.0.0.1.nip.io")],
    *[(host, 403) for host in ("localhost.evil.com", "localhost.localdomain", "a.localhost", "xlocalhost", "localhost-")],
    *[(host, 403) for host in ("evil.com", "evil.com.", "EVIL.COM", "upstream", "my_service", "xn--e1aybc.example")],
    *[(host, 403) for host in ("127.1", "127.0.1", "127", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001")],
    *[(host, 403) for host in ("0177.0.0.1", "127.0.0.01", "127.0.0.256", "127.0.0.1.1", "1.0.0.127", "0.0.0.0", "0")],
    *[(host, 403) for host in ("[::]", "[::2]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]")],
    *[(host, 403) for host in ("128.0.0.1", "126.255.255.255", "10.0.0.1:8000", "192.168.0.1", "169.254.169.254")],
    *[(host, 400) for host in ("127.0.0.1@evil.com", "evil.com@127.0.0.1", "user:password@localhost", "127.0.0.1:8000@evil")],
    *[(host, 400) for host in ("127.0.0.1/", "localhost/path", "localhost?x", "localhost#x", "localhost\\evil.com")],
    *[(host, 400) for host in ("http://localhost", "//localhost", "localhost evil.com", "localhost,evil.com", "a;b", "local\thost")],
    *[(host, 400) for host in ("[", "[]", "[::1", "::1", "::1]", "[::1]x", "[[::1]]", "[127.0.0.1]", "[::1%lo]", "[::1%25lo]")],
    *[(host, 400) for host in ("localhost:x", "localhost:-1", "localhost:65536", "localhost:99999999", "localhost:80:80", ":8000")],
    *[(host, 400) for host in ("127.0.0.1.", "127.0.0.1.:8000", "localhost..", ".localhost", "a..b", ".", "a" * 64, "a." * 130)],
    *[(host, 400) for host in ("l\xf6calhost", "%6cocalhost", "localhost%00", "\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", "*")],
    ("", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_without_a_key_only_requests_to_loopback_are_answered(server: RunningServer, host: str, status: int) -> None:
    reply = call(app_of(server.context), ("host", host))
    assert reply.status == status
    if status != 200:
        assert reply.error["code"] == {400: "host_malformed", 403: "host_not_allowed"}[status]
    # A page that was rebound to this server sends its own name as host and as origin.
    if status == 403 and host:
        assert call(app_of(server.context), ("host", host), ("origin", f"http://{host}")).status == 403


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/metrics", "/v1/models", "/v2", "/openapi.json", "/no"]
)
def test_every_path_of_both_ports_is_behind_the_guard(server: RunningServer, path: str) -> None:
    for app in (app_of(server.context), app_of(server.context, is_admin=True)):
        for headers in (
            [("host", "127.0.0.1.evil.com")],
            [("host", "127.0.0.1"), ("origin", "http://evil.com")],
            [("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:3000")],
            [("host", "127.0.0.1"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            [],
        ):
            assert call(app, *headers, path=path).status == 403, headers


def test_no_setting_opens_the_admin_port_to_other_hosts_or_pages(server: RunningServer) -> None:
    app = app_of(
        server.context,
        key=KEY,
        insecure=True,
        allowed_hosts=("*",),
        allowed_origins=("*",),
        root_path="/edit",
        is_admin=True,
    )
    assert call(app, ("host", "localhost:9000"), path="/metrics").status == 200
    assert call(app, ("host", "evil.com"), path="/metrics").status == 403
    assert call(app, ("host", "localhost"), ("origin", "http://evil.com"), path="/metrics").status == 403
    assert "access-control-allow-origin" not in call(app, ("host", "localhost"), path="/metrics").headers


def test_host_headers_are_counted(server: RunningServer) -> None:
    for app in (app_of(server.context), app_of(server.context, insecure=True)):
        for second in ("localhost", "evil.com", ""):
            assert call(app, ("host", "localhost"), ("host", second)).status == 400
    assert call(app_of(server.context)).status == 403
    assert call(app_of(server.context, insecure=True)).status == 200
    assert call(app_of(server.context, allowed_hosts=("*",))).status == 200
    assert call(app_of(server.context, insecure=True, allowed_hosts=("a.example",))).status == 403


def test_hosts_over_a_socket(server: RunningServer) -> None:
    def first_line(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(4096).split(b"\r\n")[0]

    assert b" 200 " in first_line(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b" 403 " in first_line(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert b" 400 " in first_line(b"GET /v1/models HTTP/1.1\r\n\r\n")
    assert b" 400 " in first_line(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
    # A target in absolute form would replace Host (RFC 9112, 3.2.2); such targets have no route.
    for target in (b"http://evil.com/v1/models", b"http://localhost/v1/models", b"//evil.com/v1/models", b"*"):
        assert b" 404 " in first_line(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("host", [host for host, status in HOSTS if status == 403 and ":" not in host])
def test_a_server_without_a_key_listens_on_no_such_host(host: str) -> None:
    with pytest.raises(InputError, match="there is no API key"):
        ServerSettings(host=host)


def test_hosts_to_listen_on() -> None:
    for host in ("localhost", "127.0.0.1", "127.8.9.10", "::1", "0:0::1"):
        assert ServerSettings(host=host).host == host
    for host in (
        "",
        " ",
        "::",
        "[::1]",
        "::ffff:127.0.0.1",
        "::1%lo",
        "127.0.0.1 ",
        "127.0.0.1\n",
        "127.0.0.1:80",
        "１27.0.0.1",
    ):
        assert not is_loopback(host)
        with pytest.raises(InputError):
            ServerSettings(host=host)


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("edit.example.com", ["edit.example.com", "EDIT.example.com:81", "edit.example.com."], ["example.com", "a.edit.example.com"]),
        ("Edit.Example.com:443", ["edit.example.com:443"], ["edit.example.com", "edit.example.com:80"]),
        ("edit.example.com:80", ["edit.example.com", "edit.example.com:80"], ["edit.example.com:443"]),
        ("*.example.com", ["a.example.com", "a.b.example.com:8"], ["example.com", "evilexample.com", "example.com.evil", "a.example.com.evil"]),
        ("10.0.0.0/8", ["10.1.2.3", "10.1.2.3:8000"], ["11.0.0.1", "10.evil.com", "10.1", "[::ffff:10.0.0.1]"]),
        ("10.1.2.3:81", ["10.1.2.3:81"], ["10.1.2.3", "10.1.2.4:81"]),
        ("fd00::/8", ["[fd00::5]:8000"], ["[fe80::1]", "fd00"]),
        ("[fd00::5]:80", ["[fd00::5]", "[fd00:0::5]:80"], ["[fd00::5]:81"]),
        ("upstream", ["upstream", "upstream:81"], ["upstream.evil.com", "evil.upstream"]),
        ("*", ["evil.com", "10.1.2.3", "[fe80::1]"], []),
    ],
)  # fmt: skip
def test_allowed_hosts(server: RunningServer, rule: str, allowed: list[str], refused: list[str]) -> None:
    app = app_of(server.context, allowed_hosts=("other.example", rule))
    with_key = app_of(server.context, key=KEY, allowed_hosts=("other.example", rule))
    for host in [*allowed, "127.0.0.1:9", "other.example"]:
        assert call(app, ("host", host)).status == 200, host
        assert call(with_key, ("host", host), ("authorization", f"Bearer {KEY}")).status == 200, host
    for host in refused:
        assert call(app, ("host", host)).status == 403, host
        assert call(with_key, ("host", host), ("authorization", f"Bearer {KEY}")).status == 403, host


def test_with_a_key_or_insecure_any_host_is_answered(server: RunningServer) -> None:
    assert call(app_of(server.context, key=KEY), ("host", "upstream"), ("authorization", f"Bearer {KEY}")).status == 200
    assert call(app_of(server.context, insecure=True), ("host", "upstream")).status == 200


@pytest.mark.parametrize(
    "entry",
    ["http://a.example", "a.example/x", "a@b", "*example.com", "a.*.com", "*.10.0.0.0/8", "*.10.0.0.1", "10.0.0.1/8", "a b",
     "*.", "[::1", "", "a:x", "**"],
)  # fmt: skip
def test_wrong_entries_of_allowed_hosts(entry: str) -> None:
    with pytest.raises(InputError, match="allowed_hosts"):
        parse_host_rules([entry])
