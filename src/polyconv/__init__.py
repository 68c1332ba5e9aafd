"""polyconv: every kind of convolution in deep learning. Run it, count it, see it."""

__version__ = "0.1.0"
