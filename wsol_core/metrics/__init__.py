"""Figures, as pure functions."""
