"""DigitalOcean: Droplets with GPUs, VMs by size and region, in one JSON API below /v2.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's public OpenAPI document and documentation; texts of refusals as its clients quote them.
"""
