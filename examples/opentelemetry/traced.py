"""A raw ASGI application within OpenTelemetry's middleware, which makes a span of each request."""

import json
import logging

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider

# Give it a span processor and an exporter to send the spans somewhere.
trace.set_tracer_provider(TracerProvider())

log = logging.getLogger("traced")


async def answer(scope, receive, send):
    """Tell which trace and request this is; also in a log line, to which the server adds the request's id."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    span = trace.get_current_span().get_span_context()
    log.info("answering in span %016x", span.span_id)
    told = {"trace_id": f"{span.trace_id:032x}", "request_id": scope["state"]["request_id"]}
    body = json.dumps(told).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = OpenTelemetryMiddleware(answer)
