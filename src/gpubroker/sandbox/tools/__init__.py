"""Command-line tools that run inside machines: standard library only, imported by path."""
