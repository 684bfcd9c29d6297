"""SPOL: activation maps, Gaussian labels, class-agnostic segmentation."""
