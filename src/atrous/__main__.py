"""`python -m atrous` is the command `atrous`."""

from atrous.cli.main import run

run()
