"""SEC: localization cues, segmentation with a dense CRF."""
