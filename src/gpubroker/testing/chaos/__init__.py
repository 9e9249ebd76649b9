"""Processes that are killed, stopped and forgotten, and clouds that outlive them: the proof."""
