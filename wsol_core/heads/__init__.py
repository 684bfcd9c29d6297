"""Heads that several methods put on a backbone."""
