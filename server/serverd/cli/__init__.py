"""The command `serverd`: reads the command line, runs what it asks for, ends the process.

It knows no configuration and no processes. What a command needs is imported when it runs, so that `--help`
and `--version` answer at once.

    command       the group: `serverd -c FILE`, what is wrong usage
    control       status, reload, reopen, stop, scale, upgrade: they ask a running server
    run           run: one application without a file; and what --reload means
    inspection    check, routes, explain, schema: they look at a configuration
                  (check, mount_table, explain and what these use are what the commands find out)
    setup         init, dev-cert, completion: they prepare something
    usage         the words for what is wrong with a command line
    options       what several commands have         ending    exit codes, and that failures are sentences

A further command is a `click.command` in a module of its kind, named in the module's COMMANDS, which are added here.
"""

from __future__ import annotations

from serverd.cli import control, inspection, run, setup
from serverd.cli.command import main

__all__ = ["main"]

for _command in (*run.COMMANDS, *control.COMMANDS, *inspection.COMMANDS, *setup.COMMANDS):
    main.add_command(_command)
