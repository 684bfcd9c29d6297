"""A file per data set layout."""
