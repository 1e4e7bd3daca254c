"""What the operator wrote: reads, checks and resolves the configuration files into a `Generation`.

`load` is the way in; `python -m serverd.config FILE` is the same in a process of its own, so that the
supervisor never holds pydantic. Nothing is imported here, on purpose: who needs `load` says so.

    load          reads the files, and is the only module that opens them
    document      one file: its text, its values, the line of a key   (locate, substitution, include)
    models        every key with its type, default and description    (kinds, values, addresses, routes)
    validation    a document against its model, all problems at once  (wording)
    listeners, apps, mounts     what needs the machine or the neighbours, one module per noun   (modules)
    report        problems as text for the operator
    reference     the models as reference.toml and as JSON Schema
"""
