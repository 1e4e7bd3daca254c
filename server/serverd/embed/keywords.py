"""The options of `serverd.run` and `serverd.Server`, typed; what each means is in `config/options`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

__all__ = ["OF_PROCESSES", "Options", "RunOptions"]


class Options(TypedDict, total=False):
    """What a server within a process takes."""

    host: str
    port: int
    uds: str
    fd: int
    backlog: int
    factory: bool
    app_dir: str
    interface: str
    lifespan: str
    env_file: str
    root_path: str
    header: Sequence[str]
    server_header: bool
    date_header: bool
    http: str
    proxy_headers: bool
    forwarded_allow_ips: str
    limit_concurrency: int
    timeout_keep_alive: float
    timeout_graceful_shutdown: float
    ws_max_size: int
    ws_max_queue: int
    ws_ping_interval: float
    ws_ping_timeout: float
    ws_per_message_deflate: bool
    h11_max_incomplete_event_size: int
    ssl_certfile: str
    ssl_keyfile: str
    ssl_keyfile_password: str
    ssl_ca_certs: str
    ssl_cert_reqs: int
    ssl_ciphers: str


class RunOptions(Options, total=False):
    """What is about the processes, too; `loop`, `log_level` and `log_format` also for an application object."""

    loop: str
    log_level: str
    log_format: str
    access_log: bool
    workers: int | str
    control_socket: str
    limit_max_requests: int
    limit_max_requests_jitter: int
    timeout_worker_healthcheck: float
    reload: bool
    reload_dir: Sequence[str]
    reload_include: Sequence[str]
    reload_exclude: Sequence[str]


OF_PROCESSES = frozenset(RunOptions.__annotations__.keys() - Options.__annotations__.keys())
"""The options that mean nothing for a server within somebody's process."""
