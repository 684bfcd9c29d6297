"""A trained network on images of any folder: which network, from which file, and what is written."""
