"""`python -m fcos_cli`, for torchrun and for places where the command is not on the path."""

from fcos_cli.app import main

main()
