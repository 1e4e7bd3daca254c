"""serverd: a server that hosts several ASGI applications from one TOML file."""
