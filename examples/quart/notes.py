"""A Quart application: notes that live as long as the worker."""

from quart import Quart, request, url_for
from quart.typing import ResponseReturnValue

app = Quart(__name__)
notes: dict[str, str] = {}


@app.get("/")
async def index() -> ResponseReturnValue:
    """List the notes with the URL of each."""
    return {name: url_for("show", name=name) for name in sorted(notes)}


@app.put("/<name>")
async def save(name: str) -> ResponseReturnValue:
    """Keep the body of the request as a note."""
    notes[name] = await request.get_data(as_text=True)
    return {"saved": name}, 201


@app.get("/<name>")
async def show(name: str) -> ResponseReturnValue:
    """Return a note."""
    if name not in notes:
        return {"error": "no such note"}, 404
    return notes[name], 200, {"content-type": "text/plain; charset=utf-8"}
