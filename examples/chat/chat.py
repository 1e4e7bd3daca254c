"""A chat in one room: everybody who has the page open reads what anybody writes.

The room is in the memory of one worker, so server.toml says `workers = 1`; with more of them the lines would have to go
through something that all share, such as Redis.
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, WebSocket
from fastapi.responses import FileResponse

LONGEST_LINE = 1000  # characters; what is beyond is cut off
LINES_KEPT = 100  # for one who reads slowly: he misses the oldest ones, and holds up nobody

app = FastAPI(title="Chat")
room: set["Member"] = set()


class Member:
    """Somebody who has the page open, and the lines that have not been sent to him yet."""

    def __init__(self, socket: WebSocket, name: str) -> None:
        self.socket = socket
        self.name = name
        self._lines: deque[dict[str, str]] = deque(maxlen=LINES_KEPT)
        self._has_lines = asyncio.Event()

    def tell(self, line: dict[str, str]) -> None:
        """Have a line sent, and do not wait for that."""
        self._lines.append(line)
        self._has_lines.set()

    async def read(self) -> None:
        """Send lines, as fast as the member reads them, for as long as he is there."""
        while True:
            await self._has_lines.wait()
            self._has_lines.clear()
            while self._lines:
                await self.socket.send_json(self._lines.popleft())

    async def write(self) -> None:
        """Tell the room what the member writes, until he goes."""
        async for text in self.socket.iter_text():
            if text := text.strip()[:LONGEST_LINE]:
                tell_all({"from": self.name, "text": text})


def tell_all(line: dict[str, str]) -> None:
    """Tell the line to everybody in the room."""
    for member in room:
        member.tell(line)


@app.get("/")
async def page() -> FileResponse:
    """Serve the page."""
    return FileResponse(Path(__file__).with_name("page.html"), media_type="text/html")


@app.websocket("/room")
async def enter(socket: WebSocket, name: Annotated[str, Query(min_length=1, max_length=40)]) -> None:
    """Be in the room as long as the WebSocket is open. FastAPI refuses it, with 403, if the name is missing."""
    await socket.accept()
    member = Member(socket, name)
    room.add(member)
    tell_all({"note": f"{name} has come"})
    reading = asyncio.create_task(member.read())
    try:
        await member.write()
    finally:
        room.discard(member)
        tell_all({"note": f"{name} has gone"})
        reading.cancel()
        # It has been cancelled, or has ended before: to send to one who has gone is an error.
        await asyncio.gather(reading, return_exceptions=True)
