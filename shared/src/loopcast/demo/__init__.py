"""A real little-loops loop that runs again and again, for `loopcast up --demo`."""
