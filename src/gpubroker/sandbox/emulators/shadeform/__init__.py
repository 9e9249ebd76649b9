"""Shadeform: other clouds' machines by one API; a create is only put into a queue.

`api` has the routes; each other module has one subject, its calls and its records. Source: the
vendor's OpenAPI documents (of its documentation, and the newer one of its command line), and its
guides.
"""
