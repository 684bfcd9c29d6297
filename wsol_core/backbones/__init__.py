"""Named feature pyramids, a file per family."""
