"""Hyperstack: VMs by flavor in environments, each of one region, with actions that are GETs.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's OpenAPI document of the Infrahub API, its documentation and its Python SDK.
"""
