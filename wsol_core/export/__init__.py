"""Results in the formats of other tools, a file per format."""
