"""The command line: parse, call the broker, render."""
