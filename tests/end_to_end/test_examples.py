"""Every example is started as its README says and does what its README promises. nginx: see test_nginx."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.conftest import ModuleServe
from tests.support.client import Client
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

Example = Callable[[str], Server]


@pytest.fixture(scope="module")
def example(serve_module: ModuleServe, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Return the server of an example, by the path of its file; started once, in a copy, of which there may be many."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(EXAMPLES, copy / "examples")
    shutil.copy(ROOT / "server.toml", copy)
    return cache(lambda file: serve_module(copy / file))


@contextmanager
def browse(server: Server) -> Iterator[httpx.Client]:
    """Yield a client whose relative URLs lead to the server."""
    with httpx.Client(base_url=server.url(""), trust_env=False, timeout=15) as client:
        yield client


def assert_docs_work(client: httpx.Client, prefix: str, host: str | None = None) -> None:
    """Load FastAPI's documentation page as a browser does: the page, then the document that it names."""
    headers = {"host": host} if host else {}
    page = client.get(f"{prefix}/docs", headers=headers)
    assert page.status_code == 200
    named = re.search(r"url: '([^']+)'", page.text)
    assert named is not None
    assert named[1] == f"{prefix}/openapi.json"
    document = client.get(named[1], headers=headers)
    assert document.status_code == 200
    assert "/items/{name}" in document.json()["paths"]
    servers = document.json().get("servers", [{"url": ""}])
    assert servers[0]["url"] == prefix  # "Try it out" sends its requests there


def test_every_example_has_a_file_an_application_and_a_readme() -> None:
    names = {"hello", "several", "django", "quart", "streaming", "unix-nginx", "chat", "opentelemetry", "inside"}
    assert {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()} == names
    for name in names:
        assert (EXAMPLES / name / "server.toml").is_file()
        assert f"examples/{name}/server.toml" in (EXAMPLES / name / "README.md").read_text()


def test_hello_answers_every_path(example: Example) -> None:
    with browse(example("examples/hello/server.toml")) as client:
        for path in ("/", "/any/path?at=all"):
            response = client.get(path)
            assert (response.status_code, response.text) == (200, "Hello from serverd!\n")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_several_routes_by_path_and_by_host(example: Example) -> None:
    with browse(example("examples/several/server.toml")) as client:
        apple = {"name": "apple", "price": 0.5, "currency": "EUR"}
        assert client.get("/shop/").json() == ["apple", "pear"]
        assert client.get("/shop/items/apple").json() == apple
        assert client.get("/items/apple", headers={"host": "shop.localhost"}).json() == apple
        assert client.get("/items/apple", headers={"host": "Branch.Shop.LocalHost:8000"}).json() == apple
        assert client.get("/shop/items/rocket").status_code == 404
        assert client.get("/blog/first").text == "Hello, world."
        assert client.get("/first", headers={"host": "blog.localhost"}).text == "Hello, world."
        assert client.get("/shopping/list").json()["root_path"] == ""
        assert client.get("/elsewhere", headers={"host": "any.example"}).json() == {
            "path": "/elsewhere",
            "root_path": "",
            "host": "any.example",
        }


def test_several_makes_links_that_fit_each_mount(example: Example) -> None:
    with browse(example("examples/several/server.toml")) as client:
        assert 'href="http://blog.localhost/first"' in client.get("/", headers={"host": "blog.localhost"}).text
        links = re.findall(r'href="([^"]+)"', client.get("/blog/").text)
        base = str(client.base_url).rstrip("/")
        assert links == [f"{base}/blog/first", f"{base}/blog/second"]
        assert client.get(links[0]).text == "Hello, world."


@pytest.mark.parametrize(("prefix", "host"), [("/shop", None), ("", "shop.localhost")], ids=["by path", "by host"])
def test_several_shows_the_documentation_of_fastapi_under_its_mount(
    example: Example, prefix: str, host: str | None
) -> None:
    with browse(example("examples/several/server.toml")) as client:
        assert_docs_work(client, prefix, host)


def test_django_works_under_a_path(example: Example) -> None:
    with browse(example("examples/django/server.toml")) as client:
        assert client.get("/").headers["location"] == "/guestbook/"
        page = client.get("/guestbook/")
        assert 'action="/guestbook/sign"' in page.text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {"entry": "<I was here>", "csrfmiddlewaretoken": token[1]}
        signed = client.post("/guestbook/sign", data=form)
        assert (signed.status_code, signed.headers["location"]) == (302, "/guestbook/")
        assert "&lt;I was here&gt;" in client.get("/guestbook/").text
        assert client.post("/guestbook/sign", data={"entry": "forged"}).status_code == 403


def test_quart_works_under_a_path(example: Example) -> None:
    with browse(example("examples/quart/server.toml")) as client:
        assert client.get("/notes/today").status_code == 404
        saved = client.put("/notes/today", content="buy milk — two")
        assert (saved.status_code, saved.json()) == (201, {"saved": "today"})
        assert client.get("/notes/today").text == "buy milk — two"
        assert client.get("/notes/").json() == {"today": "/notes/today"}


def test_inside_shows_health_to_everybody_and_the_rest_on_a_listener_of_its_own(example: Example) -> None:
    server = example("examples/inside/server.toml")
    host, port = server.address("inside")
    with browse(server) as client, httpx.Client(base_url=f"http://{host}:{port}", trust_env=False) as inside:
        for path in ("/health", "/health/livez", "/health/readyz"):
            assert client.get(path).text == inside.get(path).text == "ok\n"
        for path in ("/metrics", "/status"):
            assert client.get(path).text == "Hello from serverd!\n"
        assert 'serverd_requests_total{app="hello",mount="/",status="2xx"} 2.0' in inside.get("/metrics").text
        page = inside.get("/status", headers={"accept": "text/html"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert inside.get("/status?format=json").json()["apps"][0]["name"] == "hello"


def test_streaming_sends_chunks_echo_trailers_and_early_hints(example: Example) -> None:
    server = example("examples/streaming/server.toml")
    with Client(server.address()) as client:
        counted = client.request("GET", "/count")
        assert counted.header("transfer-encoding") == "chunked"
        assert counted.body == b"".join(b"%d\n" % number for number in range(1, 11))

        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"0\r\n\r\n")
        echoed = client.response()
        assert echoed.body == b"abc"
        assert echoed.header("connection") == "close", "it began when nobody knew how much would follow"

    with Client(server.address()) as client:
        summed = client.request("GET", "/checksum", [("TE", "trailers")])
        assert summed.header("trailer") == "x-sha256"
        assert summed.trailers == [("x-sha256", hashlib.sha256(summed.body).hexdigest())]

        page = client.request("GET", "/page")
        assert [early.status for early in page.informational] == [103]
        assert page.informational[0].header("link") == "</style.css>; rel=preload; as=style"
        assert b"Early" in page.body

        assert client.request("GET", "/nowhere").status == 404


def test_streaming_echoes_before_the_upload_is_complete(example: Example) -> None:
    server = example("examples/streaming/server.toml")
    with Client(server.address()) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        assert client.head().status == 200
        assert client.read(6) == b"1\r\na\r\n"
        client.send(b"b")
        assert client.read(11) == b"1\r\nb\r\n0\r\n\r\n"


def test_opentelemetry_goes_on_with_the_trace_of_the_client_and_logs_it(example: Example) -> None:
    server = example("examples/opentelemetry/server.toml")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with browse(server) as client:
        response = client.get("/", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        assert response.json() == {"trace_id": trace, "request_id": trace}
        assert response.headers["x-request-id"] == trace
        other = client.get("/").json()
        assert other["request_id"] != trace
    server.wait_for(f'"request_id":"{trace}","trace_id":"{trace}"')
    logged = [json.loads(line) for line in server.output.splitlines() if '"answering in span' in line]
    assert [line["request_id"] for line in logged] == [trace, other["request_id"]]


def test_the_file_of_make_run_serves_all_of_its_applications(example: Example) -> None:
    with browse(example("server.toml")) as client:
        assert client.get("/").text == "Hello from serverd!\n"
        assert client.get("/shop/items/pear").json()["currency"] == "EUR"
        assert "Guestbook" in client.get("/guestbook/").text
        assert client.get("/notes/").json() == {}
        assert client.get("/streaming/count").text.startswith("1\n2\n")
        assert "first" in client.get("/", headers={"host": "blog.localhost:8000"}).text
        health = client.get("/healthz")
        assert (health.status_code, health.text, health.headers["content-type"]) == (200, "ok\n", "text/plain")
        assert client.get("/docs").headers["location"] == "/shop/docs"
        assert_docs_work(client, "/shop")
