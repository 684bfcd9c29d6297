"""A file per paper."""
