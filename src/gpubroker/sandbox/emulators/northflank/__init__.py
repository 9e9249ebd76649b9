"""Northflank, as the service behaves: containers as services of a project, which is in a region.

A service that finds no GPU is not refused: it waits. Names make ids.
"""
