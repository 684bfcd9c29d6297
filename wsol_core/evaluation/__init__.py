"""Figures of every stage against the ground truth."""
