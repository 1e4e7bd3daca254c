"""The control socket: how an operator asks a running supervisor, and what the commands make of the answers.

A unix socket and nothing else: no part of it listens on an address of the network. Both ends speak in
JSON, one object per line; `requests` has the vocabulary.

    socket_file   where the socket is: the directory's and the file's safety, taking the place of another
    peer          who is at the other end
    server        the supervisor's end, in its select loop
    client        the operator's end, blocking
    commands      what `serverd status` and its like ask, and what they show
"""
