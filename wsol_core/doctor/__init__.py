"""What `wsol doctor` looks at before hours are spent."""
