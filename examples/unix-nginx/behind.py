"""A Starlette application that shows what reaches it through nginx."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route


async def index(request: Request) -> JSONResponse:
    """Return client and headers as the application sees them: the client is nginx's, not nginx."""
    client = request.client.host if request.client else None
    return JSONResponse({"path": request.url.path, "client": client, "headers": dict(request.headers)})


async def length(request: Request) -> PlainTextResponse:
    """Count the bytes of an upload without keeping them."""
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return PlainTextResponse(str(total))


app = Starlette(routes=[Route("/", index), Route("/length", length, methods=["POST"])])
