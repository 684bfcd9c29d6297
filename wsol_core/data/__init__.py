"""Data sets: index, readers, images, loading, and the demo."""
