"""Counting: parameters, multiply-accumulates, bytes, receptive fields, the matrix, what else would do, what to mind."""
