"""Every cloud on loopback."""
