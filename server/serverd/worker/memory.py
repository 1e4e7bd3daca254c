"""How a worker that serves treats its memory: what the garbage collector looks at, and what the system gets back.

`process` calls it once, when everything that stays has been imported. `embed` does not: there, both are the program's.
"""

from __future__ import annotations

import gc

__all__ = ["relieve_allocator", "relieve_collector"]

# Objects that are new and may stand in circles, after which the collector looks at them: that of Python, which an
# application may have changed, and ours. Python 3.14 begins with 2,000. benchmarks/ "HTTP/2".
_USUAL_THRESHOLD = gc.get_threshold()[0]
_CALM_THRESHOLD = 5000

# Bytes of a block which, once freed, has glibc keep blocks of its size, and twice as much of what is free, for the next
# (mallopt(3), M_MMAP_THRESHOLD): from the beginning it is 128 KiB. Above that every turn of the loop in which a few
# bodies of 64 KB arrive gives pages back that the next one has the kernel clear again. benchmarks/ "64 KB upload".
_KEPT_BLOCK = 2 * 1024 * 1024


def relieve_collector() -> None:
    """Have the garbage collector look at what is new only, and less often.

    With requests in flight by the hundred it came every few of them, for a tenth of the time, and found nothing: an
    ended request leaves no circle (tests/connection/test_leftovers). Who has said how often stays right.
    """
    # The modules of the applications need not be walked again; performance.md, "gc.freeze".
    gc.collect()
    gc.freeze()
    often, *rarely = gc.get_threshold()
    if often == _USUAL_THRESHOLD:
        gc.set_threshold(_CALM_THRESHOLD, *rarely)


def relieve_allocator() -> None:
    """Have the allocator keep a few MB of freed memory, where it adapts itself as that of glibc does.

    Most applications have it so already, without knowing, by reading or freeing a large block once.
    """
    block = bytearray(_KEPT_BLOCK)
    del block
