"""The L2 norm of a frozen network's features as a map: a baseline without training and without labels."""
