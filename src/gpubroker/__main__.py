"""`python -m gpubroker`."""

from gpubroker.cli.main import main

main()
