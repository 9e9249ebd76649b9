"""Clouds: one file each, its wire format to and from the model."""
