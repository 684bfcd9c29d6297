"""FAM: foreground memory and part attention."""
