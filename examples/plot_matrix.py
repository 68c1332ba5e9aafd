"""
A convolution as a matrix, and its transpose
============================================

For a fixed input size a convolution is a sparse matrix. The transposed convolution is its transpose: it gives
back the shape, not the values.
"""

import numpy as np

import polyconv as pc

weight = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
C = pc.matrix("conv 3x3 1 nobias", weight, input_size=(4, 4))
print(C.toarray().astype(int))

# %%
# The same products as the layer's:

x = np.arange(16.0)
y = C @ x
print(np.array_equal(y, pc.conv(x.reshape(1, 1, 4, 4), weight).ravel()))
back = C.T @ y
print(np.array_equal(back, pc.conv_transpose(y.reshape(1, 1, 2, 2), weight).ravel()))
print(x.reshape(4, 4))
print(back.reshape(4, 4))

# %%
# Which cells of the input make which row:

drawing = pc.draw_matrix("conv 3x3 1 nobias", input_size=(4, 4))
