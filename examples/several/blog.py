"""A Starlette application with a lifespan: what it opens at the start is there in every request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route


class State(TypedDict):
    """What the lifespan hands to the requests; a real application keeps its database pool here."""

    posts: dict[str, str]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    """Open what the application needs, once per worker."""
    yield {"posts": {"first": "Hello, world.", "second": "Still here."}}


async def index(request: Request) -> HTMLResponse:
    """Link every post; url_for knows the path under which the application is mounted."""
    links = (f'<li><a href="{request.url_for("post", name=name)}">{name}</a>' for name in request.state.posts)
    return HTMLResponse(f"<title>Blog</title><ul>{''.join(links)}</ul>")


async def post(request: Request) -> PlainTextResponse:
    """Show one post."""
    text = request.state.posts.get(request.path_params["name"])
    return PlainTextResponse(text or "no such post", 200 if text else 404)


app = Starlette(routes=[Route("/", index), Route("/{name}", post, name="post")], lifespan=lifespan)
