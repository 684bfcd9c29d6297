"""Boxes that may hold an object, and their objectness."""
