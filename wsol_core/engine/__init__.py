"""Devices, the one training loop, the one inference loop, checkpoints."""
