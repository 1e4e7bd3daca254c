"""What servers without mounts need for many applications in one process: Starlette's own."""

from hello import app
from starlette.applications import Starlette
from starlette.routing import Mount


def _mounted(count: int) -> Starlette:
    services = [Mount(f"/services/service-{number}", app) for number in range(1, count)]
    return Starlette(routes=[*services, Mount("/", app)])


fifty = _mounted(50)
thousand = _mounted(1000)
