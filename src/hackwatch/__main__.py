"""`python -m hackwatch` is `hackwatch`."""

from hackwatch.cli import main

main(prog_name="hackwatch")
