"""Weakly supervised localization, detection and segmentation."""
