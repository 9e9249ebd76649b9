"""Verda (formerly DataCrunch): VMs by type and location, on demand and as spot, in one JSON API.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's own SDKs for Go and Python, whose wire form this is; it publishes no OpenAPI document that
could be had. Creating calls answer a bare id in plain text.
"""
