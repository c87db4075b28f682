"""`python -m rayfinch`: the same as the command `rayfinch`, for checkouts that are not installed."""

from rayfinch.cli import main

main()
