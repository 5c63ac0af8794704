"""The rewrites, by subject.  Each module has ``FIXES``; a new one is found by being there."""
