"""Paperspace: VMs by machine type and region, on demand, in one JSON API.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
types that the vendor generated from its OpenAPI document for its own command line, that command
line, and the vendor's published API reference. Its legacy API (api.paperspace.io) is closed since
July 2024, and is not here.
"""
