"""Which failures of an application are none: those that began with the client going away."""

from __future__ import annotations

import pytest

from serverd.asgi.failure import began_with_disconnect, send_error
from serverd.errors import ClientDisconnected
from tests.support.every import every


def caused(
    error: BaseException, cause: BaseException | None = None, context: BaseException | None = None
) -> BaseException:
    """Return `error` with this cause and context."""
    error.__cause__ = cause
    error.__context__ = context
    return error


GONE = ClientDisconnected()

CASES = [
    pytest.param(GONE, True, id="itself"),
    pytest.param(caused(RuntimeError(), GONE), True, id="as the cause"),
    pytest.param(caused(RuntimeError(), None, GONE), True, id="as the context"),
    pytest.param(caused(RuntimeError(), caused(ValueError(), None, GONE)), True, id="further down"),
    pytest.param(ExceptionGroup("", [GONE]), True, id="in a group"),
    pytest.param(ExceptionGroup("", [GONE, ExceptionGroup("", [GONE, GONE])]), True, id="in groups"),
    pytest.param(caused(RuntimeError(), ExceptionGroup("", [GONE])), True, id="a group as the cause"),
    pytest.param(ExceptionGroup("", [caused(RuntimeError(), GONE)]), True, id="as a cause in a group"),
    pytest.param(RuntimeError(), False, id="another error"),
    pytest.param(OSError("disk"), False, id="another OSError"),
    pytest.param(ConnectionResetError(), False, id="another connection's end"),
    pytest.param(ExceptionGroup("", [GONE, RuntimeError()]), False, id="beside another in a group"),
    pytest.param(caused(RuntimeError(), ValueError(), GONE), False, id="another cause comes before the context"),
]


@every(("error", "expected"), CASES)
def test_what_began_with_the_disconnect_is_recognised(error: BaseException, expected: bool) -> None:
    assert began_with_disconnect(error) is expected


@pytest.mark.timeout(5)
def test_a_chain_of_causes_may_bite_its_own_tail_or_be_long() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert not began_with_disconnect(first)
    error: BaseException = GONE
    for _ in range(5000):
        error = caused(RuntimeError(), error)
    assert began_with_disconnect(error)
    while error.__cause__ is not None:  # taken apart, as freeing it at once would recurse
        error = error.__cause__


class Sent:
    """Keeps what is sent of one response."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def send_headers(self, *arguments: object) -> None:
        self.calls.append(("head", *arguments))

    def send_body(self, *arguments: object) -> None:
        self.calls.append(("body", *arguments))


@pytest.mark.parametrize("bodiless", [False, True], ids=["GET", "HEAD"])
def test_the_500_has_a_length_and_to_head_no_body(bodiless: bool) -> None:
    sent = Sent()
    send_error(sent, 500, [], bodiless=bodiless)  # type: ignore[arg-type]
    (_, status, fields, end), *bodies = sent.calls
    assert (status, end) == (500, bodiless)
    if not bodiless:
        assert bodies == [("body", b"Internal Server Error\n", True)]
    assert dict(fields)[b"content-length"] == b"22"  # type: ignore[call-overload]


def test_a_group_may_be_a_cause_of_what_is_in_it() -> None:
    """As of Starlette's ClientDisconnect, which its BaseHTTPMiddleware raises again out of a group of tasks."""
    error = RuntimeError()
    error.__context__ = ExceptionGroup("", [error])
    assert not began_with_disconnect(error)
    error.__context__ = ExceptionGroup("", [error, caused(RuntimeError(), GONE)])
    assert began_with_disconnect(error)
    error.__context__ = ExceptionGroup("", [error, GONE, RuntimeError()])
    assert not began_with_disconnect(error)
