"""A coverage-guided fuzz target for HPACK, run by hand (README.md): our decoder and that of the library, one result."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris

with atheris.instrument_imports(include=["serverd"]):
    import hpack
    import hpack.exceptions

    from serverd.protocol.hpack import HpackError
    from serverd.protocol.hpack_decoder import HpackDecoder
    from serverd.protocol.hpack_encoder import HpackEncoder

LIST_SIZE = 1 << 20


class Finding(Exception):
    """Two readings of the same block differ."""


def check(data: bytes) -> None:
    """Raise Finding when the decoders disagree about `data`, in blocks of which the first octet says the size."""
    decoder = HpackDecoder(LIST_SIZE)
    encoder = HpackEncoder()
    oracle = hpack.Decoder(max_header_list_size=LIST_SIZE)
    back = hpack.Decoder(max_header_list_size=LIST_SIZE)
    while data:
        size = data[0] + 1
        block, data = data[1:size], data[size:]
        reason = ""
        ours = theirs = None
        try:
            ours = decoder.decode(block)
        except HpackError as error:
            reason = error.reason
        try:
            theirs = [(bytes(name), bytes(value)) for name, value in oracle.decode(block, raw=True)]
        except hpack.exceptions.HPACKError:
            theirs = None
        if "28 bits" in reason or "two size updates" in reason:
            return  # our bounds; the library has none
        if ours != theirs:
            raise Finding(f"{ours} {reason} is not {theirs}")
        if ours is None:
            return
        again = [(bytes(name), bytes(value)) for name, value in back.decode(encoder.encode(ours), raw=True)]
        if again != ours:
            raise Finding(f"{ours} comes back as {again}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
