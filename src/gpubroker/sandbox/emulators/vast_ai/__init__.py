"""Vast.ai: a marketplace of hosts. Containers, on demand or for a bid.

`api` has the routes; each other module has one subject, its calls and its records. Sources:
Vast.ai's API reference and guides, and what its own client 1.9.1 sends.
"""
