"""Lambda Cloud: VMs by type and region, on demand, in one JSON API.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's OpenAPI document 1.8.3 and its public documentation.
"""
