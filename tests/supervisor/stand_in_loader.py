"""A loader for tests: reads a JSON object instead of a configuration.

report      the text of a LoadFailed          addresses   "127.0.0.1:0" or "unix:PATH", default one
crash       an exit status without a word     server      fields of [server]
hang        true: never say anything          behaviour   what the workers do, see stand_in_worker
padding     bytes that the generation carries beside
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace

from serverd.generation import Address, AddressKind, App, Generation, Limits, Listener, Logging, Server
from serverd.messages import Loaded, LoadFailed, encode


def make_address(text: str) -> Address:
    if text.startswith("unix:"):
        return Address(AddressKind.UNIX, text, path=text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return Address(AddressKind.TCP, text, host=host, port=int(port))


def main(path: str) -> int:
    with open(path) as file:
        wanted = json.load(file)
    if wanted.get("hang"):
        signal.pause()
    if "crash" in wanted:
        return int(wanted["crash"])
    if "report" in wanted:
        sys.stdout.buffer.write(encode(LoadFailed(wanted["report"])))
        return 3
    server = replace(Server(workers=2, start_timeout=20.0, graceful_timeout=20.0), **wanted.get("server", {}))
    addresses = tuple(make_address(text) for text in wanted.get("addresses", ["127.0.0.1:0"]))
    listeners = (Listener("web", addresses, 64, Limits(), source="server.toml:3"),)
    padding = {"PADDING": "x" * wanted.get("padding", 0)}
    app = App("shop", wanted.get("behaviour", "serve"), "/", env=padding, source="server.toml:7")
    generation = Generation(path, server, listeners, (app,), (), Logging(format="text", level="debug"))
    sys.stdout.buffer.write(encode(Loaded(generation)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
