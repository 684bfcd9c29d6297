"""From score maps to boxes: thresholds and boxes."""
