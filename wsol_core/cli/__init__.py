"""The command `wsol`."""
