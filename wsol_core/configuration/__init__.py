"""The parameter file: its typed model, presets, and how they are written."""
