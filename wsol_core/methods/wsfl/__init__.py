"""WSFL: the foreground pixel classifier and what it learns from."""
