"""How much time is left to a certificate, in words; pure, and without pydantic, because the supervisor asks it, too."""

from __future__ import annotations

import re

from serverd.generation import Certificate

__all__ = ["DAY", "EXPIRY_NOTICE", "KEPT", "tell_age", "tell_authority_age", "tell_list_age", "without_days"]

DAY = 86400
# Seconds before the end of a certificate at which the operator is warned: ACME clients renew 30 days before by default
# (certbot), so that one that is left with 21 has not been renewed.
EXPIRY_NOTICE = 21 * DAY


# How a warning ends of a pair that cannot be used when it is read again.
KEPT = " (what it held before stays in use)"

_DAYS = re.compile(r"\d+ days?|less than a day")  # as `_days` has them


def tell_age(certificate: Certificate, now: float) -> str:
    """Return what is to be said of the dates of a certificate and its chain as a predicate; "" when there is nothing.

    It is about the one that ends first. `now` is in seconds since the epoch.
    """
    effect, remedy = "clients refuse it", "expected it to be renewed by now"
    found = [(certificate.not_after, _tell(certificate.not_before, certificate.not_after, now, effect, remedy))]
    effect, remedy = "clients refuse it that know no other way", "expected another chain by now"
    for one in certificate.issuers:
        told = _tell(one.since, one.until, now, effect, remedy)
        found.append((one.until, told and f'has "{one.name}" in its chain, which {told}'))
    return next((told for _, told in sorted(found, key=lambda one: one[0]) if told), "")


def tell_authority_age(since: int, until: int, now: float) -> str:
    """Return what is to be said, as a predicate, of an authority of clients with these dates; "": nothing."""
    effect = "no certificate of a client from there is valid"
    return _tell(since, until, now, effect, "expected its successor beside it by now")


def tell_list_age(until: int, now: float) -> str:
    """Return what is to be said of a list of revoked certificates that is good until then; "" when there is nothing.

    Both are in seconds since the epoch; 0 is for ever. How long before its end a list is renewed differs too much for a
    notice ahead of it.
    """
    if not until or now <= until:
        return ""
    return f"has expired {_days(now - until)} ago (no certificate of a client from there is valid until it is renewed)"


def without_days(age: str) -> str:
    """Return what was told without how many days it is: what stays the same until there is something new to be said."""
    return _DAYS.sub("", age)


def _tell(since: int, until: int, now: float, effect: str, remedy: str) -> str:
    """Return where `now` stands to two dates; `effect` is what comes of being outside, `remedy` what should be done."""
    left = until - now
    if left < 0:
        return f"has expired {_days(-left)} ago ({effect})"
    if since > now:
        return f"is not valid yet, but in {_days(since - now)} ({effect} until then)"
    return f"expires in {_days(left)} ({remedy})" if left < EXPIRY_NOTICE else ""


def _days(seconds: float) -> str:
    days = int(seconds // DAY)
    return f"{days} day{'' if days == 1 else 's'}" if days else "less than a day"
