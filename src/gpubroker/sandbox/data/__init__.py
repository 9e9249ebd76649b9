"""What each cloud has to rent out, and its character."""
