"""The speed suite: polyconv beside the libraries people use today. Run ``scripts/bench --help``."""
