"""Lyceum: VMs by hardware profile and GPU count, on demand and as spot, in one JSON API.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's own command line, whose wire form this is, and its published pages; it publishes no
OpenAPI document. Its other product, runs (one job, paid by the second), is told of and not run.
"""
