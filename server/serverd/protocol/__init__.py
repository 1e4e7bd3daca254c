"""Bytes to meaning and back, sans-IO: no socket, no clock, no event loop; `connection` drives it."""
