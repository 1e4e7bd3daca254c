"""`serverd routes`, `explain` and `schema`: what a configuration means, found out by the code that serves."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serverd import cli
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.cli.explain import explain as ask
from serverd.cli.explain_text import scope_of
from serverd.cli.mount_table import ANY_HOST, table
from serverd.cli.question import read_question
from serverd.config.load import load
from tests.control.desk import Service
from tests.control.documents import status
from tests.support.authority import Authority
from tests.support.server import Server

CONFIG = """
[listeners.web]
bind = [":8000", "unix:web.sock"]
trusted_proxies = ["10.0.0.0/8"]
forwarded_headers = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix"]
[listeners.inner]
bind = "127.0.0.1:9000"
protocols = ["h2"]
[apps.shop]
app = "shop"
[[mounts]]
path = "/"
hosts = ["shop.example", "*.shop.example"]
app = "shop"
[[mounts]]
path = "/api"
hosts = ["*.example"]
app = "shop"
[[mounts]]
path = "/api/v2"
hosts = ["shop.example"]
app = "shop"
strip_prefix = true
[[mounts]]
path = "/old"
redirect = "https://{host}/new{uri}"
listeners = ["web"]
[[mounts]]
path = "/ping"
respond = { status = 200, body = "ok" }
headers = { x-from = "here" }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "shop.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "server.toml").write_text(CONFIG)
    return str(tmp_path / "server.toml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def explain(file: str, url: str, *more: str) -> dict[str, Any]:
    """Return the only answer."""
    result = run("explain", "-c", file, url, "--json", *more)
    (answer,) = json.loads(result.stdout)["answers"]
    assert result.exit_code == (0 if answer["served"] else 3)
    return answer


# Routes


def test_routes_are_a_table_in_the_order_of_decision(file: str) -> None:
    result = run("routes", "-c", file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "HOST PATH LISTENERS TARGET ROOT_PATH STRIP_PREFIX SOURCE",
        'shop.example /api/v2 all app shop "" yes server.toml:20',
        'shop.example / all app shop "" - server.toml:12',
        '*.shop.example / all app shop "" - server.toml:12',
        "*.example /api all app shop /api - server.toml:16",
        "* /old web redirect https://{host}/new{uri} - - server.toml:25",
        "* /ping all respond 200 - - server.toml:29",
    ]
    assert len({line.index("server.toml") for line in lines[1:]} | {lines[0].index("SOURCE")}) == 1


def test_routes_for_programs_say_everything(file: str) -> None:
    rows = json.loads(run("routes", "-c", file, "--json").stdout)
    assert rows[0] == {
        "host": "shop.example",
        "path": "/api/v2",
        "listeners": ["web", "inner"],
        "target": {"kind": "app", "app": "shop"},
        "root_path": "",
        "strip_prefix": True,
        "headers": {},
        "trace": False,
        "access_log": True,
        "source": "server.toml:20",
    }
    assert rows[-1]["target"] == {"kind": "respond", "status": 200, "body": "ok", "headers": {}}
    assert rows[-1]["headers"] == {"x-from": "here"}


@pytest.mark.parametrize("host", ["shop.example", "a.shop.example", "b.example", "nobody", "a.b.shop.example"])
@pytest.mark.parametrize("path", ["/", "/api", "/api/v2/x", "/apis", "/old/x", "/ping"])
def test_the_first_row_that_matches_is_what_the_router_finds(file: str, host: str, path: str) -> None:
    async def nobody(*_: object) -> None:
        raise AssertionError

    generation = load(file, {})
    endpoints = {id(mount): Endpoint(nobody, mount.source) for mount in generation.mounts}
    none = Endpoint(nobody, "none")
    routes = [Route(mount.hosts, mount.path, endpoints[id(mount)]) for mount in generation.mounts]
    found = Router(routes, none, none, none).find(host, path)
    matching = [
        row["source"]
        for row in table(generation)
        if (row["host"] in (host, ANY_HOST) or (row["host"].startswith("*.") and host.endswith(row["host"][1:])))
        and f"{path}/".startswith(row["path"].rstrip("/") + "/")
    ]
    assert found.name == next(iter(matching), "none")


# Explain


def test_an_answer_names_listener_mount_app_and_scope(file: str, tmp_path: Path) -> None:
    result = run("explain", "-c", file, "http://shop.example:8000/api/v2/%78?y=1")
    assert result.exit_code == 0
    assert result.stdout == (
        "listener     web (server.toml:2), :8000\n"
        "mount        /api/v2 for shop.example (server.toml:20): app shop\n"
        "before       / for shop.example, *.shop.example (server.toml:12): app shop; its path is shorter than /api/v2\n"
        "before       /api for *.example (server.toml:16): app shop; *.example is less specific than shop.example\n"
        f"app          shop (server.toml:10), shop:app in {tmp_path}\n"
        'scope        type         "http"\n'
        '             method       "GET"\n'
        '             scheme       "http"\n'
        '             root_path    ""\n'
        '             path         "/x"\n'
        '             raw_path     "/api/v2/%78"\n'
        '             query_string "y=1"\n'
        '             client       "127.0.0.1"\n'
    )


def test_the_mount_is_found_as_the_server_finds_it(file: str) -> None:
    """A dot segment walks out of a mount, whatever the path says."""
    answer = explain(file, "http://shop.example:8000/api/v2/%2e%2e/%2e%2e/x")
    assert answer["mount"]["path"] == "/"
    assert answer["scope"]["path"] == "/api/v2/../../x"


@pytest.mark.parametrize(
    ("url", "listeners"),
    [
        ("http://shop.example:8000/", ["web"]),
        ("http://127.0.0.1:8000/", ["web"]),
        ("http://[::1]:8000/", ["web"]),
        ("http://localhost:9000/", ["inner"]),
        ("http://127.0.0.1:9000/", ["inner"]),
        ("http://10.0.0.1:9000/", []),
        ("http://localhost/", []),
        ("https://localhost:8000/", []),
        ("/ping", ["web", "web", "inner"]),
    ],
)
def test_scheme_port_and_host_decide_which_listeners_answer(file: str, url: str, listeners: list[str]) -> None:
    answers = json.loads(run("explain", "-c", file, url, "--json").stdout)["answers"]
    assert [answer["listener"] for answer in answers] == listeners


def test_where_nobody_listens_it_says_who_listens_where(file: str) -> None:
    result = run("explain", "-c", file, "https://shop.example/")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        'no listener is where "https://shop.example/" leads, there are:',
        "  web (server.toml:2), :8000",
        "  web (server.toml:2), unix:web.sock",
        "  inner (server.toml:6), 127.0.0.1:9000",
        "behind a proxy, name the one that it asks: --listener NAME",
    ]


def test_a_redirect_says_where_to(file: str) -> None:
    answer = explain(file, "http://nobody:8000/old/a?b=c")
    assert (answer["status"], answer["location"]) == (307, "https://nobody/new/old/a?b=c")


@pytest.mark.parametrize(
    ("url", "status", "nearest", "why"),
    [
        ("http://b.example:8000/apis", 404, "/api", "/apis does not lie below /api"),
        ("http://nobody:8000/", 404, "/", "nobody is none of its hosts"),
    ],
)
def test_what_nobody_serves_is_told_with_the_nearest_mount(
    file: str, url: str, status: int, nearest: str, why: str
) -> None:
    answer = explain(file, url)
    assert (answer["status"], answer["mount"]) == (status, None)
    assert (answer["nearest"]["path"], answer["nearest"]["why"]) == (nearest, why)


def test_what_a_builtin_mount_answers_is_left_to_a_running_server(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('[listeners.web]\nbind = "127.0.0.1:8000"\n[[mounts]]\npath = "/metrics"\nbuiltin = "metrics"\n')
    done = run("explain", "-c", str(file), "http://127.0.0.1:8000/metrics")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "builtin metrics" in done.stdout
    assert "answer" not in done.stdout
    assert "builtin metrics" in run("routes", "-c", str(file)).stdout


def test_a_host_that_no_mount_is_for_is_misdirected(file: str) -> None:
    path = Path(file)
    path.write_text(CONFIG[: CONFIG.index('[[mounts]]\npath = "/old"')])
    assert explain(file, "http://nobody:8000/")["status"] == 421


def test_a_trusted_proxy_is_believed_and_nobody_else(file: str) -> None:
    said = ["-H", "X-Forwarded-For: 192.0.2.9", "-H", "X-Forwarded-Host: shop.example", "-H", "X-Forwarded-Prefix: /p"]
    believed = explain(file, "http://nobody:8000/x", *said, "--client", "10.0.0.1")
    assert (believed["mount"]["path"], believed["scope"]["client"]) == ("/", "192.0.2.9")
    assert (believed["scope"]["root_path"], believed["scope"]["path"]) == ("/p", "/p/x")
    assert explain(file, "http://nobody:8000/x", *said)["mount"] is None


@pytest.mark.parametrize("port", ["8000", "9000"])
def test_a_websocket_has_its_own_scope(file: str, port: str) -> None:
    scope = explain(file, f"ws://shop.example:{port}/chat")["scope"]
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "ws", "/chat")


@pytest.mark.parametrize(
    ("url", "more", "status", "reason"),
    [
        ("http://shop.example:8000/%zz", (), 400, "malformed percent escape in the target"),
        ("http://shop.example:8000/", ("-X", "FROB"), 501, "unknown method"),
        (
            "http://shop.example:8000/",
            ("-X", "TRACE"),
            405,
            "TRACE is not passed on (unless the mount has trace = true)",
        ),
        ("http://a$b:8000/", (), 400, "invalid Host"),
    ],
)
def test_what_is_refused_is_told_with_the_reason(
    file: str, url: str, more: tuple[str, ...], status: int, reason: str
) -> None:
    answer = explain(file, url, *more)
    assert (answer["served"], answer["status"], answer["reason"]) == (False, status, reason)


@pytest.mark.parametrize(
    ("host", "number", "fits"),
    [("other.example", 1, True), ("a.wild.example", 1, True), ("first.example", 0, True), ("nobody.example", 0, False)],
)
def test_the_certificate_is_the_one_that_a_handshake_shows(tmp_path: Path, host: str, number: int, fits: bool) -> None:
    Authority().issue("first.example").write(tmp_path, "first")
    Authority().issue("other.example", "*.wild.example", key_number=1).write(tmp_path, "other")
    file = tmp_path / "server.toml"
    file.write_text(
        '[listeners.web]\nbind = ":8443"\ntls = "main"\n[tls.main]\nclient_auth = "required"\nclient_ca = "first.crt"\n'
        'certificates = [\n{ cert = "first.crt", key = "first.key" },\n{ cert = "other.crt", key = "other.key" },\n]\n'
        '[[mounts]]\nrespond = { body = "x" }\n'
    )
    answer = explain(str(file), f"https://{host}:8443/")
    assert answer["certificate"]["source"] == f"server.toml:{8 + number}"
    assert answer["certificate"]["fits"] is fits


@pytest.mark.parametrize(
    ("host", "shown", "why", "passed"),
    [
        ("a.example", [("ec", "TLS 1.3"), ("rsa", "RSA only")], "it has the name itself", {
            "wild": "a wildcard comes behind the name itself",
            "second": "its key is of the same kind as that of server.toml:5, which comes first",
        }),
        ("A.Example.", [("ec", "TLS 1.3"), ("rsa", "RSA only")], "it has the name itself", {"wild": "", "second": ""}),
        ("b.example", [("wild", "TLS 1.3")], "it has a wildcard for the name", {}),
        ("nobody.test", [("ec", "TLS 1.3"), ("rsa", "RSA only")], "none is for this host", {}),
        ("192.0.2.7", [("ec", "TLS 1.3"), ("rsa", "RSA only")], "clients name no host that is an address",
         {"address": "clients name no host that is an address"}),
    ],
)  # fmt: skip
def test_of_several_certificates_it_is_told_who_is_shown_which_and_why(
    tmp_path: Path, host: str, shown: list[tuple[str, str]], why: str, passed: dict[str, str]
) -> None:
    authority = Authority()
    order = ["ec", "rsa", "wild", "second", "address"]
    authority.issue("a.example").write(tmp_path, "ec")
    authority.issue("a.example", kind="rsa").write(tmp_path, "rsa")
    authority.issue("*.example", key_number=1).write(tmp_path, "wild")
    authority.issue("a.example", "c.example", key_number=2).write(tmp_path, "second")
    authority.issue("192.0.2.7", key_number=3).write(tmp_path, "address")
    pairs = ",\n".join(f'{{ cert = "{name}.crt", key = "{name}.key" }}' for name in order)
    file = tmp_path / "server.toml"
    file.write_text(
        f'[listeners.web]\nbind = ":8443"\ntls = "main"\n[tls.main]\ncertificates = [{pairs}]\n'
        '[[mounts]]\nrespond = { body = "x" }\n'
    )
    line = {name: f"server.toml:{5 + number}" for number, name in enumerate(order)}
    answer = explain(str(file), f"https://{host}:8443/")
    found = [answer["certificate"], *answer["more_certificates"]]
    assert [one["source"] for one in found] == [line[name] for name, _ in shown]
    assert all(whom in one["whom"] for one, (_, whom) in zip(found, shown, strict=True))
    assert found[0]["why"].startswith(why)
    assert {one["source"] for one in answer["passed_certificates"]} == {line[name] for name in passed}
    text = run("explain", "-c", str(file), f"https://{host}:8443/").stdout
    assert f"because {why}" in text
    for name, reason in passed.items():
        assert f"not {line[name]}, for " in text
        assert reason in text


def test_clients_of_each_version_are_told_apart_where_they_are_shown_different_ones(tmp_path: Path) -> None:
    authority = Authority()
    authority.issue("a.example").write(tmp_path, "ec")
    authority.issue("a.example", kind="rsa").write(tmp_path, "rsa")
    file = tmp_path / "server.toml"
    file.write_text(
        '[listeners.web]\nbind = ":8443"\ntls = "main"\n[tls.main]\nciphers = "ECDHE-RSA-AES128-GCM-SHA256"\n'
        'certificates = [{ cert = "ec.crt", key = "ec.key" },\n{ cert = "rsa.crt", key = "rsa.key" }]\n'
        '[[mounts]]\nrespond = { body = "x" }\n'
    )
    answer = explain(str(file), "https://a.example:8443/")
    assert answer["certificate"]["whom"] == "clients that speak TLS 1.3"
    assert [(one["source"], one["whom"]) for one in answer["more_certificates"]] == [
        ("server.toml:7", "clients that speak TLS 1.2")
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["shop.example/x"], '"shop.example/x" is not a URL of http, https, ws or wss (expected like'),
        (["http://x:99999/"], '"http://x:99999/" is not a URL: port out of range'),
        (["http://x:0/"], '"http://x:0/" names port 0, which nobody can connect to'),
        (["http://[::1/"], '"http://[::1/" is not a URL: invalid ipv6 url'),
        (["http://x/\x1b"], "the URL holds a control character: 'http://x/\\x1b'"),
        (["http://x/", "-H", "no"], '"no" is not a header (expected like'),
        (["http://x/", "-H", "a: b\r\nc: d"], "the header holds a control character"),
        (["http://x/", "-X", "G\n"], "the method holds a control character"),
        (["http://x/", "--client", "me"], 'the client "me" is not an address (expected like "192.0.2.1")'),
        (["http://x/", "--listener", "nope"], 'there is no listener "nope" (expected one of: web, inner)'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_question_is_a_sentence(file: str, arguments: list[str], error: str) -> None:
    result = run("explain", "-c", file, *arguments)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"serverd: {error}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["routes"], ["explain", "http://x/"]], ids=" ".join)
def test_a_configuration_that_is_not_valid_is_reported_with_its_lines(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[server]\nworkres = 2\n")
    result = run(*command, "-c", str(file))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.splitlines()[2:4] == [
        'server.toml:2: server.workres: unknown key (did you mean "workers"?)',
        "   2 | workres = 2",
    ]


def test_the_schema_is_the_generated_one() -> None:
    result = run("schema")
    expected = (Path(__file__).parents[2] / "config" / "server.schema.json").read_text()
    assert (result.exit_code, result.stdout) == (0, expected)


# Ports that the file does not say

UNSETTLED = """
[control]
socket = "c.sock"
[listeners.web]
bind = {web}
[listeners.inside]
bind = {inside}
[[mounts]]
listeners = ["web"]
respond = {{ body = "web" }}
[[mounts]]
listeners = ["inside"]
respond = {{ body = "inside" }}
"""


def unsettled(folder: Path, web: str = '"127.0.0.1:0"', inside: str = '"127.0.0.1:0"') -> str:
    (folder / "server.toml").write_text(UNSETTLED.format(web=web, inside=inside))
    return str(folder / "server.toml")


@contextlib.contextmanager
def running(file: str, *places: tuple[str, str]) -> Iterator[None]:
    """Stand in for a server of the file that is at these places."""
    document = status() | {"source": file, "listeners": [{"name": name, "url": url} for name, url in places]}
    socket = Path(file).with_name("c.sock")
    with Service(socket, lambda server, number, _: server.reply(number, {"ok": True} | document)):
        yield


@pytest.mark.parametrize(
    ("web", "inside", "url"),
    [
        ('"127.0.0.1:0"', '"127.0.0.1:9000"', "http://127.0.0.1:8000/"),
        ('":0"', '"unix:x.sock"', "http://shop.example/"),
        ('"systemd:web"', '"127.0.0.1:9000"', "http://10.0.0.1:8000/"),
        ('["127.0.0.1:0", "[::1]:0"]', '"127.0.0.1:9000"', "http://localhost:8000/"),
    ],
)
def test_the_only_listener_whose_port_is_not_known_is_the_one(tmp_path: Path, web: str, inside: str, url: str) -> None:
    done = run("explain", "-c", unsettled(tmp_path, web, inside), url)
    assert (done.exit_code, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("listener     web (server.toml:4), ")
    port = 8000 if "8000" in url else 80
    assert second.strip() == f"its port is known to a running server only, and taken to be {port}"


def test_of_several_whose_port_is_not_known_none_is_guessed(tmp_path: Path) -> None:
    done = run("explain", "-c", unsettled(tmp_path), "http://127.0.0.1:8000/")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == (
        'serverd: nobody knows who is at port 8000: "web" (server.toml:4) and "inside" (server.toml:6) have ports that'
        " are known to a running server only, and none runs with this configuration (expected --listener NAME)\n"
    )


def test_a_port_that_is_known_is_never_guessed(tmp_path: Path) -> None:
    file = unsettled(tmp_path, '"127.0.0.1:0"', '"127.0.0.1:9000"')
    answer = explain(file, "http://127.0.0.1:9000/")
    assert (answer["listener"], answer["assumed"]) == ("inside", False)


@pytest.mark.parametrize(
    ("web", "place", "url"),
    [
        ('"127.0.0.1:0"', "http://127.0.0.1:4001", "http://127.0.0.1:4001/"),
        ('["127.0.0.1:80", ":0"]', "http://0.0.0.0:4001", "http://shop.example:4001/"),
        ('["127.0.0.1:80", "[::1]:0"]', "http://[::1]:4001", "http://[::1]:4001/"),
        ('["fd:3", "unix:x.sock"]', "http://10.0.0.1:4001", "http://10.0.0.1:4001/"),
    ],
)
def test_a_running_server_tells_its_ports(tmp_path: Path, web: str, place: str, url: str) -> None:
    file = unsettled(tmp_path, web)
    with running(file, ("web", "http://127.0.0.1:80"), ("web", place), ("inside", "http://127.0.0.1:4002")):
        answer = explain(file, url)
        assert (answer["listener"], answer["assumed"]) == ("web", False)
        assert answer["address"].endswith(":4001")
        assert explain(file, "http://127.0.0.1:4002/")["listener"] == "inside"
        unreached = run("explain", "-c", file, "http://10.0.0.1:4003/")
        assert unreached.exit_code == 3
        assert "inside (server.toml:6), 127.0.0.1:4002\n" in unreached.stdout


# The server itself


ECHO = """
import json
async def app(scope, receive, send):
    assert scope["type"] == "http"
    told = {key: scope[key] for key in ("type", "method", "scheme", "root_path", "path")}
    told |= {key: scope[key].decode() for key in ("raw_path", "query_string")} | {"client": scope["client"][0]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""


def test_what_is_explained_is_what_the_server_does(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(ECHO)
    file = tmp_path / "server.toml"
    file.write_text(CONFIG.replace(":8000", "127.0.0.1:0").replace("127.0.0.1:9000", "127.0.0.1:0"))
    questions = [
        ("GET", host, target)
        for host in ("shop.example", "x.shop.example", "b.example", "nobody", "bad$host")
        for target in (
            "/",
            "/api/v2",
            "/api/v2/x?y=1",
            "/api/../old/z",
            "/api/v2/%2e%2e/x",
            "/old/a?b",
            "/apis",
            "/%zz",
        )
    ]
    questions += [("TRACE", "shop.example", "/"), ("FROB", "shop.example", "/"), ("POST", "shop.example", "/api/x")]
    generation = load(str(file), {})
    with Server(file) as server:
        assert explain(str(file), f"http://shop.example:{server.port}/")["listener"] == "web"
        for method, host, target in questions:
            (answer,) = ask(generation, read_question(f"http://{host}{target}", method), "web")
            connection = http.client.HTTPConnection(*server.address(), timeout=10)
            with contextlib.closing(connection):
                connection.putrequest(method, target, skip_host=True)
                connection.putheader("Host", host)
                connection.endheaders()
                response = connection.getresponse()
                body = response.read()
            if answer.status is None:
                assert (response.status, json.loads(body)) == (200, scope_of(answer))
            else:
                assert response.status == answer.status
                assert response.getheader("location", "") == answer.location


def test_bytes_that_are_no_text_go_into_the_request_as_they_are() -> None:
    question = read_question("/\udcff", "\udcfe", ["X-\udcfd: \udcfc"])
    assert question.request().startswith(b"\xfe /%FF HTTP/1.1\r\n")
    assert b"X-\xfd: \xfc\r\n" in question.request()
