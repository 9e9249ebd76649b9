"""Thunder Compute: Linux machines by GPU, number of GPUs and vCPUs, behind a port of their host.

`api` has the routes; each other module has one subject, its calls and its records. Sources: the
vendor's OpenAPI document, its documentation and its own clients.
"""
