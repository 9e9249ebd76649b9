"""Jarvis Labs: containers of its templates and VMs, in regions that each have a host of their own.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's own SDK for Python, whose wire form this is, and clients by others; the vendor publishes
no OpenAPI document.

Where a request comes by a vendor's host name (through the proxy), what concerns one region is
taken by that region's host alone. At the sandbox's own address all hosts are one.
"""
