"""What things are: pure data, no I/O."""
