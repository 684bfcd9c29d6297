"""From score maps to boxes: calibration, localization, refinement by dense CRF."""
