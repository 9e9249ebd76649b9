"""SaladCloud, as the service behaves: containers on other people's computers, in named groups.

A create always succeeds, and waits where nobody has such a GPU; everything can be interrupted.
"""
