"""The classifier that names what others localize."""
