"""Generated HTTP/1 input: mostly well-formed requests, damaged in the ways that parsers disagree about."""

from __future__ import annotations

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"BREW", b"get", b"G\x00T", b""]
TARGETS = [
    b"/",
    b"/a/b?c=d",
    b"/%41%zz",
    b"/%00",
    b"*",
    b"http://other/x",
    b"http://[::1]:80",
    b"/a b",
    b"/\xe9",
    b"/#f",
    b"",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b""]
NAMES = [
    b"Host",
    b"Content-Length",
    b"content-length",
    b"Transfer-Encoding",
    b"Connection",
    b"Expect",
    b"Upgrade",
    b"X",
    b"X Y",
    b"X ",
    b" X",
    b"\tX",
    b"X_Y",
    b"X\x00",
    b"\xe9",
    b"",
]
VALUES = [
    b"lab",
    b"lab:80",
    b"[::1]",
    b"a b",
    b"",
    b"0",
    b"5",
    b"05",
    b"+5",
    b"5, 5",
    b"99999999999999999999",
    b"chunked",
    b"CHUNKED",
    b"gzip, chunked",
    b"chunked, chunked",
    b"chunked,",
    b"identity",
    b"close",
    b"keep-alive",
    b"Upgrade",
    b"100-continue",
    b"a\rb",
    b"a\nb",
    b"a\x00b",
    b"a\r\n b",
    b"\xff",
    b"\x0bchunked",
]
COLONS = [b": ", b":", b":\t", b" : ", b""]
LINE_ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"]
BODIES = [
    b"",
    b"hello",
    b"hello world",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"g\r\nhello\r\n",
    b"0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"0\r\nX Y: 1\r\n\r\n",
]

good_head = st.builds(
    lambda method, target, fields: method + b" " + target + b" HTTP/1.1\r\nHost: lab\r\n" + b"".join(fields) + b"\r\n",
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from([b"/", b"/a?b"]),
    st.lists(st.sampled_from([b"X: y\r\n", b"Connection: keep-alive\r\n", b"Accept: */*\r\n"]), max_size=3),
)

field_line = st.builds(
    lambda name, colon, value, end: name + colon + value + end,
    st.sampled_from(NAMES),
    st.sampled_from(COLONS),
    st.sampled_from(VALUES),
    st.sampled_from(LINE_ENDS),
)

any_head = st.builds(
    lambda method, target, version, end, host, fields, last: (
        method + b" " + target + b" " + version + end + host + b"".join(fields) + last
    ),
    st.sampled_from(METHODS[:3] * 3 + METHODS),
    st.sampled_from(TARGETS[:2] * 4 + TARGETS),
    st.sampled_from(VERSIONS[:1] * 8 + VERSIONS),
    st.sampled_from(LINE_ENDS),
    st.sampled_from([b"Host: lab\r\n"] * 4 + [b""]),
    st.lists(field_line, max_size=4),
    st.sampled_from(LINE_ENDS),
)

message = st.builds(lambda head, body: head + body, good_head | any_head, st.sampled_from(BODIES))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return one to three messages, with a few bytes changed, dropped or put in."""
    data = bytearray(b"".join(draw(st.lists(message, min_size=1, max_size=3))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        if not data:
            break
        position = draw(st.integers(0, len(data) - 1))
        byte = draw(st.sampled_from(b"\r\n\x00 \t:;,5aZ\x7f\xff"))
        change = draw(st.integers(0, 2))
        if change == 0:
            data[position] = byte
        elif change == 1:
            del data[position]
        else:
            data.insert(position, byte)
    return bytes(data)
