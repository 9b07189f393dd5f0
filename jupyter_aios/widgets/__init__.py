"""What draws itself in a notebook: one folder per view. `text` needs no widgets at all."""
