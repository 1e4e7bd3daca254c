"""Keys that other servers have and this one has not, and what is done instead.

Not misspellings: those are found by likeness, in `wording`, which asks here first. A key that is accepted does not
belong here, and a test holds that none is.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["FOREIGN", "instead"]

_STATIC = "serverd has no static files yet: the application serves them (StaticFiles, WhiteNoise), or a proxy in front"
_PROXY = "serverd is no proxy: have nginx or the like in front, which asks serverd for the rest"
_BIND = 'expected in [listeners.NAME], as bind = "127.0.0.1:8000"'
_LOOP = "a worker is an event loop in one thread; [server] has workers"
_TARGET = 'expected app = "package.module:attribute"'
_TLS = 'expected tls = "NAME", with cert and key in [[tls.NAME.certificates]]'
_TLS_ELSEWHERE = _TLS.replace(",", " in [listeners.NAME],", 1)
_BELIEF = "expected trusted_proxies in [listeners.NAME]: nobody is believed otherwise"
_CERTIFICATE = "ssl_certfile ssl_keyfile ssl_certificate ssl_certificate_key certfile keyfile"
_FOLDER = 'expected directory = "FOLDER", first on the import path'


def _words(tables: str, keys: str, remedy: str) -> Iterator[tuple[tuple[str, str], str]]:
    for table in tables.split(","):
        for key in keys.split():
            yield (table, key), remedy


FOREIGN: dict[tuple[str, str], str] = dict(
    [
        *_words(",mounts,apps,server", "static staticfiles static_files static_root share", _STATIC),
        *_words("mounts", "root alias files file dir folder index try_files autoindex fallback", _STATIC),
        *_words(",mounts,apps,server", "proxy proxy_pass reverse_proxy upstream upstreams backend", _PROXY),
        *_words(",server,apps", "host port address listen", _BIND),
        *_words("listeners", "host port address listen", 'expected bind = "127.0.0.1:8000"'),
        *_words("listeners", "cert certificate certificates ssl", _TLS),
        *_words("listeners", _CERTIFICATE, _TLS),
        *_words(",server,apps", _CERTIFICATE, _TLS_ELSEWHERE),
        *_words(",server,listeners", "proxy_headers forwarded_allow_ips", _BELIEF),
        *_words("listeners", "server_name", 'expected hosts = ["example.com"] in [[mounts]]'),
        *_words("mounts", "server_name", 'expected hosts = ["example.com"]'),
        *_words("mounts", "location prefix url uri", 'expected path = "/shop"'),
        *_words("mounts", "directory", f"of an app, expected in [apps.NAME]; {_STATIC}"),
        *_words(",server,apps", "reload", "expected on the command line, as serverd --reload"),
        *_words(",server", "processes", "expected workers in [server]"),
        *_words("listeners", "pass", 'expected [[mounts]] with listeners = ["NAME"]'),
        *_words("mounts", "pass target", 'expected app = "NAME"'),
        *_words(",apps,server", "threads thread worker_class", _LOOP),
        *_words("apps", "processes", "expected workers in [server]: every worker has every app"),
        *_words("apps", "module callable target", _TARGET),
        *_words("apps", "pythonpath python_path app_dir chdir working_directory", _FOLDER),
        *_words("apps", "home virtualenv venv python", "apps run in the environment that serverd is installed in"),
        *_words("apps", "wsgi", "serverd has no WSGI yet: a2wsgi makes an ASGI application of one"),
        *_words("apps", "mount prefix url", 'expected [[mounts]] with path = "/shop" and app = "NAME"'),
    ]
)
"""What to do instead, by the outermost table ("" at the top level) and the key in it."""


def instead(table: str, key: str) -> str | None:
    """Return what takes the place of a key that `table` does not have, None when nobody has thought of it."""
    return FOREIGN.get((table, key.lower().replace("-", "_")))
