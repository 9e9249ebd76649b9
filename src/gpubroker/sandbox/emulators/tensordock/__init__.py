"""TensorDock: VMs on the machines of independent hosts, sized and priced part by part.

`api` has the routes; each other module has one subject, its calls and its records. Sources: the
vendor's pages on API v2, and what working clients of others saw of it. Of the older v0 there is
only what v2 has not: the balance.
"""
