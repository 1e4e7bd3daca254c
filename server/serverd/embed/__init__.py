"""serverd from within Python: `serverd.run`, and `serverd.Server` for tests and for programs that embed a server.

    running       run: as the command `serverd run` does, or an application object in this process
    server        Server: one worker's serving in the caller's event loop
    keywords      the options that both take, typed

`serverd/__init__` names what is public, and imports it when it is asked for. Nobody else imports this.
"""
