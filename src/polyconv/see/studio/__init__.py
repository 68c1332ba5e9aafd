"""A page on this machine in which any network is built, seen at work, counted and tried on a picture."""
