"""A generation by value: everything that came from one reading of the configuration, as plain data.

`config` makes it, the supervisor numbers it and hands it to its workers, the workers build their
routers and applications from it. It has no behaviour beyond reading itself, needs no pydantic, and
survives the trip through `messages`. Times are seconds, sizes are bytes, paths are absolute.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum

from serverd.records import record

__all__ = [
    "ACCESS_FIELDS",
    "AccessLog",
    "Account",
    "Address",
    "AddressKind",
    "App",
    "AppTarget",
    "BuiltinTarget",
    "Certificate",
    "File",
    "Generation",
    "Http2Limits",
    "Limits",
    "Listener",
    "Logging",
    "Mount",
    "Recycle",
    "RedirectTarget",
    "RespondTarget",
    "Server",
    "Target",
    "Tls",
    "Validity",
    "WebSocketLimits",
]


class AddressKind(Enum):
    """What a `bind` entry names."""

    TCP = "tcp"  # host and port; host "" is every interface, dual stack
    UNIX = "unix"  # path of a unix stream socket
    FD = "fd"  # a listening descriptor inherited from whoever started the supervisor
    SYSTEMD = "systemd"  # the listening descriptors that socket activation calls by this name


@record
class Address:
    """One address of a listener; `text` is how the operator wrote it."""

    kind: AddressKind
    text: str
    host: str = ""  # TCP: numeric or resolvable host, without brackets
    port: int = 0  # TCP: 0 lets the kernel choose
    path: str = ""  # UNIX
    fd: int = -1  # FD
    name: str = ""  # SYSTEMD: as LISTEN_FDNAMES has it


@record
class WebSocketLimits:
    """Bounds on a WebSocket session (configuration.md, [limits.websocket])."""

    message_size: int = 16 * 1024 * 1024  # after decompression
    frame_size: int = 16 * 1024 * 1024  # payload, as it is on the wire
    queue: int = 16  # messages received and not read by the application; more are not taken from the wire
    ping_interval: float = 20.0  # without a byte from the peer until it is asked whether it is there; 0: never
    ping_timeout: float = 20.0  # for its answer; 0: it may take its time
    compression: bool = True  # permessage-deflate, for clients that offer it


@record
class Http2Limits:
    """Bounds on an HTTP/2 connection (configuration.md, [limits.http2])."""

    concurrent_streams: int = 128
    initial_window: int = 65_535  # what a peer may send on a stream before the application has read it
    max_frame_size: int = 16_384
    resets: int = 500  # streams that may end early at once; 33 a second are forgotten
    continuations: int = 8  # frames that a header block may go on in


@record
class Limits:
    """Bounds on what a peer may make a connection hold or wait for (configuration.md, [limits])."""

    header_timeout: float = 10.0  # from accept, or the first byte of a later request, to the end of the head
    body_timeout: float = 30.0  # between two reads of a request body that somebody waits for
    send_timeout: float = 30.0  # without the peer taking any byte of a blocked response
    keep_alive_timeout: float = 75.0  # an idle connection between two requests
    request_line: int = 8 * 1024
    header_size: int = 64 * 1024  # the whole field section; trailers alike
    header_count: int = 100
    body_size: int = 0  # 0: unlimited
    connections: int = 0  # open at a time, per worker and listener; 0: unlimited
    connections_beyond: str = "refuse"  # refuse (with 503) | wait (until one ends, accepting no more)
    concurrency: int = 0  # requests in flight, per worker and listener, others get 503; 0: unlimited
    websocket: WebSocketLimits = WebSocketLimits()
    http2: Http2Limits = Http2Limits()


@record
class File:
    """A file as it was when it was read, to see that it is another one."""

    path: str  # absolute
    mtime: int = 0  # nanoseconds
    size: int = -1  # bytes; -1: there was none
    inode: int = 0


@record
class Validity:
    """How long an authority, or its list of revoked certificates, is good."""

    name: str  # of the authority, as people call it
    since: int  # seconds since the epoch
    until: int  # 0: for ever


@record
class Certificate:
    """A certificate with its chain and its private key: the contents of the files, and what the first one says.

    By value, because workers may run as a user who cannot read the key.
    """

    cert: str  # PEM: the certificate, then those that lead to its authority
    key: str = field(repr=False)  # PEM
    key_password: str = field(default="", repr=False)
    names: tuple[str, ...] = ()  # lower case: DNS names, "*.example.com" among them, and addresses
    key_type: str = ""  # rsa | rsa-pss | ec | ed25519 | ed448 | other
    serial: str = ""  # hexadecimal, as openssl shows it
    not_before: int = 0  # seconds since the epoch
    not_after: int = 0
    issuers: tuple[Validity, ...] = ()  # those behind it in the chain
    files: tuple[str, ...] = ()  # absolute paths of certificate and key
    source: str = ""  # "server.toml:7"
    kept: str = ""  # what is wrong with what the files hold now, so that this stays in use; "": they hold this
    refused: str = ""  # tells what they hold then from anything else, which has to be told again; "": nothing is wrong

    @property
    def first_to_end(self) -> Validity | None:
        """That of the issuers that ends before the certificate, and before the others; None: none does."""
        first = min(self.issuers, key=lambda one: one.until, default=None)
        return first if first is not None and first.until < self.not_after else None


@record
class Tls:
    """How a listener speaks TLS ([tls.NAME])."""

    name: str
    certificates: tuple[Certificate, ...]  # never empty; the first is for names that no other has
    min_version: str = "1.2"  # 1.2 | 1.3
    ciphers: str = ""  # of TLS 1.2, as OpenSSL lists them; "": the default of `net.tls`
    client_auth: str = "none"  # none | optional | required
    client_ca: str = ""  # PEM: whose client certificates are believed
    client_crl: str = ""  # PEM: those that are revoked; "": nobody asks
    client_authorities: tuple[Validity, ...] = ()  # of client_ca
    client_lists: tuple[Validity, ...] = ()  # of client_crl: from being issued until there should be another
    client_files: tuple[str, ...] = ()  # absolute paths of the two
    files: tuple[File, ...] = ()  # everything that was read, with that of the certificates
    source: str = ""
    sources: tuple[tuple[str, str], ...] = ()  # of its keys that are there: ("ciphers", "server.toml:9")

    def source_of(self, key: str) -> str:
        """Return where a key stands; where the table does when the key is not there."""
        return dict(self.sources).get(key, self.source)


@record
class Listener:
    """A named set of addresses that are served alike."""

    name: str
    addresses: tuple[Address, ...]
    backlog: int
    limits: Limits
    protocols: tuple[str, ...] = ("http/1.1", "h2")
    socket_mode: int | None = None  # unix sockets: permission bits
    socket_uid: int | None = None
    socket_gid: int | None = None
    trusted_proxies: tuple[str, ...] = ()  # addresses, networks, "unix": who may say on whose behalf it speaks
    forwarded_headers: tuple[str, ...] = ("x-forwarded-for", "x-forwarded-proto")  # of theirs that are believed
    proxy_protocol: bool = False  # every connection begins with a PROXY header
    ambiguous_headers: str = "drop"  # names with "_" or ".": drop | pass | refuse
    tls: Tls | None = None  # None: in the clear
    source: str = ""  # "server.toml:3", for messages


@record
class App:
    """An ASGI application to be imported by every worker."""

    name: str
    target: str  # "package.module:attribute.path"
    directory: str  # first on the import path
    factory: bool = False
    interface: str = "auto"  # auto | asgi3 | asgi2
    lifespan: str = "auto"  # auto | on | off
    on_failure: str = "exit"  # exit | unavailable
    request_timeout: float = 0.0  # for a response to be complete; 0: none
    env: dict[str, str] = field(default_factory=dict)  # env_file and env, merged
    source: str = ""  # "server.toml:7": the line that names the application


@record
class AppTarget:
    """The mount hands the request to an application."""

    app: str
    root_path: str  # without trailing slash; "" at the root
    strip_prefix: bool = False


@record
class RespondTarget:
    """The mount answers with a fixed response."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...]


@record
class RedirectTarget:
    """The mount answers 307 with this location; `{host}` and `{uri}` stand for the request's."""

    location: str


@record
class BuiltinTarget:
    """The mount answers with what the server knows of itself."""

    name: str  # health | metrics | status


Target = AppTarget | RespondTarget | RedirectTarget | BuiltinTarget


@record
class Mount:
    """Where a target is served: listeners, hosts and a path prefix on a segment boundary."""

    path: str  # "/" or "/a/b", normalised, no trailing slash
    hosts: tuple[str, ...]  # lower case; "name", "*.name"; empty: any
    listeners: tuple[str, ...]  # names, never empty: "all" is already spelled out
    target: Target
    headers: tuple[tuple[str, str], ...] = ()  # of every response that has none of the name; names in lower case
    access_log: bool = True  # what it answers stands there
    trace: bool = False  # TRACE reaches the application
    source: str = ""


@record
class Recycle:
    """When a worker is replaced although nothing is wrong with it ([server.recycle]); 0 is never."""

    requests: int = 0  # that it has begun
    jitter: int = 0  # requests more, differing from worker to worker
    lifetime: float = 0.0  # since it was ready
    memory: int = 0  # resident


@record
class Account:
    """Who the workers are ([server] user and group); None leaves what the supervisor is."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()  # supplementary; taken together with uid


@record
class Server:
    """The process-wide settings that workers and supervisor need ([server])."""

    workers: int = 1
    loop: str = "auto"  # auto | uvloop | asyncio
    http1_parser: str = "auto"  # auto | httptools | h11
    start_timeout: float = 60.0
    graceful_timeout: float = 30.0
    hang_timeout: float = 30.0  # an event loop that does not answer for so long is killed; 0: never
    lag_threshold: float = 1.0  # one that does not answer for so long has its stack logged; 0: never
    shutdown_delay: float = 0.0  # not ready any more, and still accepting
    recycle: Recycle = Recycle()
    preload: bool = False
    account: Account = Account()
    umask: int | None = None
    pid_file: str = ""  # absolute; "": none
    server_header: bool = True
    date_header: bool = True
    request_id_header: str | None = None  # of the response, in lower case


@record
class Logging:
    """How log lines look ([logging])."""

    level: str = "info"  # debug | info | warning | error
    format: str = "auto"  # auto | text | json
    file: str = ""  # absolute; "": standard error


# What a template of the access log may name; `observe.access_fields` says what each is.
ACCESS_FIELDS = (
    "time", "client", "client_port", "method", "path", "query", "target", "protocol", "host", "status", "bytes",
    "bytes_received", "duration", "duration_ms", "first_byte", "app", "mount", "listener", "worker", "pid",
    "request_id", "trace_id", "tls", "user_agent", "referer", "messages", "messages_received", "close_code",
)  # fmt: skip


@record
class AccessLog:
    """What is logged of each request ([access_log])."""

    enabled: bool = True
    format: str = "auto"  # auto | text | json | combined | a template of ACCESS_FIELDS
    file: str = ""  # absolute; "": standard output
    exclude: tuple[str, ...] = ()  # paths; "/a/*": all that begin with "/a/"
    exclude_failures: bool = False  # of these also what is not 2xx
    sample: float = 1.0  # share of the responses below 400
    min_duration: float = 0.0  # of those


@record
class Generation:
    """One validated reading of the configuration; `number` counts from 1 in the supervisor's life."""

    source: str  # absolute path of the file given with -c; of options, what people call them
    server: Server
    listeners: tuple[Listener, ...]
    apps: tuple[App, ...]
    mounts: tuple[Mount, ...]
    logging: Logging
    access_log: AccessLog = AccessLog()
    control_socket: str = ""  # absolute path of the control socket; "": none
    files: tuple[str, ...] = ()  # what it was read from: absolute paths, of `include` the patterns
    warnings: tuple[str, ...] = ()
    number: int = 0
