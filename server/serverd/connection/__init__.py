"""The asyncio shells: what moves bytes between a socket, a protocol and the exchanges."""
