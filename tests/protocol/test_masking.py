"""Masking (RFC 6455 §5.3): both ways of it are the XOR that the RFC has, byte by byte."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverd.protocol import masking
from serverd.protocol.masking import unmask, unmask_slowly
from tests.support.every import every

EVERY_WAY = pytest.mark.parametrize("way", [unmask, unmask_slowly], ids=["unmask", "unmask_slowly"])
Way = Callable[[bytes, bytes], bytes]
MASKS = st.binary(min_size=4, max_size=4)


def by_the_rfc(data: bytes, mask: bytes) -> bytes:
    """Return `transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)`."""
    return bytes(byte ^ key for byte, key in zip(data, itertools.cycle(mask), strict=False))


@EVERY_WAY
class TestUnmask:
    def test_the_masked_hello_of_the_rfc_is_hello(self, way: Way) -> None:
        assert way(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"  # RFC 6455 §5.7

    @given(data=st.binary(max_size=70), mask=MASKS)
    def test_it_is_that_of_the_rfc(self, way: Way, data: bytes, mask: bytes) -> None:
        assert way(data, mask) == by_the_rfc(data, mask)

    # Around the widths that a C implementation takes at a time: 8, 16, 32 and 64 bytes.
    @every("size", [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 125, 126, 65535, 65536, 100_001])
    def test_it_is_that_of_the_rfc_at_every_size(self, way: Way, size: int) -> None:
        data = bytes(number * 7 % 251 for number in range(size))
        for mask in (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x80\x01\x7f\x00"):
            assert way(data, mask) == by_the_rfc(data, mask)

    @given(data=st.binary(max_size=70), mask=MASKS)
    def test_twice_is_not_at_all(self, way: Way, data: bytes, mask: bytes) -> None:
        assert way(way(data, mask), mask) == data

    def test_the_result_is_bytes(self, way: Way) -> None:
        assert type(way(b"abcdef", b"\x01\x02\x03\x04")) is bytes


def another_masking() -> ModuleType:
    """Return the module as it is when it is imported now."""
    source = Path(str(masking.__file__)).with_name("masking.py")
    spec = importlib.util.spec_from_file_location("another_masking", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forget_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have imported the package in this process, as other tests have."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "websockets"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("missing", ["websockets", "websockets.speedups"])
def test_without_the_extension_it_is_done_in_python(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "websockets.speedups":
        (tmp_path / "websockets").mkdir()
        (tmp_path / "websockets" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(one for one in sys.path if "packages" not in one)])
    forget_websockets(monkeypatch)
    module = another_masking()
    assert module.unmask is module.unmask_slowly


def test_a_module_that_is_no_package_does_not_have_its_neighbours_searched(tmp_path: Path) -> None:
    (tmp_path / "websockets.py").touch()
    (tmp_path / "speedups.py").write_text("def apply_mask(data, mask):\n    return b'another'\n")
    program = """\
import sys

sys.path.insert(0, sys.argv[1])
from serverd.protocol import masking

assert masking.unmask is masking.unmask_slowly
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


@pytest.mark.parametrize("name", ["websockets", "websockets.speedups"])
@pytest.mark.parametrize("stand_in", [None, ModuleType("another")], ids=["forbidden", "another"])
def test_what_others_have_put_in_its_place_stays_there(
    name: str, stand_in: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_websockets(monkeypatch)
    monkeypatch.setitem(sys.modules, name, stand_in)
    module = another_masking()
    assert module.unmask is module.unmask_slowly
    assert sys.modules[name] is stand_in


def test_the_package_around_the_extension_is_left_to_applications() -> None:
    program = """\
import sys

from serverd.protocol import masking

assert masking.unmask is not masking.unmask_slowly
assert not [name for name in sys.modules if name.startswith("websockets") or name == "email"]

import websockets.speedups

assert websockets.speedups.apply_mask(b"abcd", b"1234") == masking.unmask(b"abcd", b"1234")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
