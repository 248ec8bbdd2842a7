"""`statistics` in, windowed counts per item and category out to `trends`: a Faust app."""
