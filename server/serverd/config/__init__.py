"""What the operator wrote: reads, checks and resolves the configuration files into a `Generation`.

`load` is the way in; `python -m serverd.config FILE` is the same in a process of its own, so that the
supervisor never holds pydantic. Nothing is imported here, on purpose: who needs `load` says so.

    load          the files, one after the other, and all that is in them
    files         the text of one file; the only module that opens them
    document      one file: its text, its values, the line of a key   (locate, substitution, include)
    models        every key with its type, default and description    (settings, tls_table; kinds, values, ...)
    validation    a document against its model, all problems at once  (wording)
    process, listeners, tls, apps, mounts    what needs the machine or the neighbours, one module per noun
                                        (accounts, cpus, modules; pairs, certificates, der, expiry)
    renewal       certificates read again, and nothing else
    report        problems as text for the operator
    reference     the models as reference.toml and as JSON Schema
    control       where the control socket of a file's server is; without pydantic, as commands use it
    changes       what differs between two generations, and whether the applications can see it
"""
