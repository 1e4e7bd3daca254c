"""`python -m serverd`: the command `serverd`, for where it is not on the PATH."""

from serverd.cli import main

main(prog_name="serverd")
