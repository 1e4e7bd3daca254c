"""Mount paths, hosts, redirects and headers."""

from __future__ import annotations

import pytest

from serverd.config.routes import (
    parse_header_name,
    parse_header_value,
    parse_host,
    parse_mount_path,
    parse_redirect,
    parse_status,
)
from tests.support.every import every


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/", "/"),
        ("/shop", "/shop"),
        ("/shop/", "/shop"),
        ("/a/b/", "/a/b"),
        ("/a b", "/a b"),
        ("/ü", "/ü"),
        ("/.a", "/.a"),
    ],
)
def test_a_mount_path_has_no_trailing_slash(written: str, path: str) -> None:
    assert parse_mount_path(written) == path


@every("written", ["", "shop", "//", "/a//b", "/.", "/a/..", "/a/../b", "/%41", "/a?b", "/a#b", "/a\n", "/\x7f", 1])
def test_other_mount_paths_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"^(is|does|holds)"):
        parse_mount_path(written)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("Example.COM", "example.com"),
        ("*.example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("a_b.example", "a_b.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("::1", "[::1]"),
        ("[0:0::0001]", "[::1]"),
        ("[FE80::A]", "[fe80::a]"),
    ],
)
def test_a_host_is_normalised(written: str, host: str) -> None:
    assert parse_host(written) == host


@every(
    ("written", "wrong"),
    [
        ("example.com:80", "holds a port"),
        ("[::1]:80", "holds a port"),
        ("example.com.", "ends with a dot"),
        ("*", "bare wildcard"),
        ("*example.com", "wildcard within"),
        ("a.*.com", "wildcard within"),
        ("*.*.com", "wildcard within"),
        ("http://a", "URL"),
        ("a/b", "URL"),
        ("ü.example", "xn--"),
        ("", "is not a host"),
        ("a..b", "is not a host"),
        (".a", "is not a host"),
        ("-a", "is not a host"),
        ("a" * 64, "is not a host"),
        (".".join(["a" * 60] * 5), "is not a host"),
        ("[::1%eth0]", "holds a port|is not a host"),
        (1, "is not a string"),
    ],
)
def test_what_no_host_header_can_match_is_refused(written: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_host(written)


@pytest.mark.parametrize(
    "location", ["https://{host}{uri}", "http://x/", "/new", "/new{uri}", "https://example.com{uri}?a=%20"]
)
def test_a_redirect_is_taken(location: str) -> None:
    assert parse_redirect(location) == location


@every(
    "location",
    [
        "",
        "new",
        "ftp://x",
        "javascript:1",
        "//x",
        "/{uri}",
        "{uri}",
        "https://{hos}",
        "/{",
        "/}",
        "/{{host}}",
        "/a b",
        "/\n",
        "/ü",
        "/\\{uri}",
        "https://",
        "https://{uri}",
        "https:///x{uri}",
        "https://?x",
        "https://:8443{uri}",
        "https://@{uri}",
        "https://shop@/",
        "https://shop@:8443{uri}",
        1,
    ],
)
def test_other_redirects_are_refused(location: object) -> None:
    with pytest.raises(ValueError, match=r"^(is|would|holds|names no host)"):
        parse_redirect(location)


@pytest.mark.parametrize("status", [200, 204, 307, 404, 599])
def test_a_final_status_is_taken(status: int) -> None:
    assert parse_status(status) == status


@pytest.mark.parametrize("status", [0, 100, 199, 600, True, "200", None])
def test_other_statuses_are_refused(status: object) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        parse_status(status)


def test_a_header_name_is_lower_case() -> None:
    assert parse_header_name("X-Served-By") == "x-served-by"


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", "ü", "a\n", "Content-Length", "TRANSFER-encoding", "connection", "te", 1]
)
def test_a_header_name_that_is_no_token_or_the_servers_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="header"):
        parse_header_name(name)


@pytest.mark.parametrize("value", ["", "a", "a b\tc", "\xe9", "!"])
def test_a_header_value_is_taken(value: str) -> None:
    assert parse_header_value(value) == value


@pytest.mark.parametrize("value", ["a\r\nb", "a\n", "a\0", " a", "a ", "\x01", "\x7f", "€", 1])
def test_a_header_value_that_breaks_its_line_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(is|holds)"):
        parse_header_value(value)
