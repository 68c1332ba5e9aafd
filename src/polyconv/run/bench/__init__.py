"""Timing layers properly, beside the other libraries of this environment: answers first, then interleaved rounds."""
