"""One broker over every GPU cloud."""
