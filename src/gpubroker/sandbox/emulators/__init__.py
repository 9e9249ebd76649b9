"""One file a cloud: its own protocol, strict, with its quirks."""
