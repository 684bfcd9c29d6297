"""Data sets: readers of common layouts, the scan and the check of files, the embedded demo."""
