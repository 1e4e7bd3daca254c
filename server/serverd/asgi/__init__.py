"""Meaning to application and back: the ASGI cycle, written once over `stream`, for every protocol."""
