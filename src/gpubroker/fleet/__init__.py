"""What is rented."""
