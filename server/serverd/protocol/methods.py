"""The methods that a request can have, in every protocol; `head` and `http2_head` refuse all others."""

from __future__ import annotations

__all__ = ["METHODS"]

# Every method of the IANA registry that an origin server can carry out, as llhttp knows them. CONNECT is
# missing on purpose: it asks for a tunnel (RFC 9110 §9.3.6) and gets 501 like every unknown method.
METHODS: dict[bytes, str] = {
    name.encode(): name
    for name in [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "M-SEARCH",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ]
}
