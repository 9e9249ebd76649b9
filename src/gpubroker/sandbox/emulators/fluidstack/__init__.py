"""FluidStack: VMs by GPU type and count, on demand, in one JSON API.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's OpenAPI document of its platform API, whose wire form this is, and its published pages.
Its older API is gone; its newer one (Atlas) is for customers under contract, and is not here.
"""
