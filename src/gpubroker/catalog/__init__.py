"""What is known offline."""
