"""The CPU compiler: machine code for one layer's problem, generated at run time through llvmlite."""
