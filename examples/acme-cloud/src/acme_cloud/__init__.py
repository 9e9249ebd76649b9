"""Acme Cloud for gpubroker."""
