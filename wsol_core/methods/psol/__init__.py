"""PSOL: box regression on pseudo boxes, a baseline."""
