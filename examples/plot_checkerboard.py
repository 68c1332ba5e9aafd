"""
Checkerboards of a transposed convolution
=========================================

A transposed convolution stamps its kernel on the output once for each input. Where the kernel's size is no
multiple of the stride, some outputs get more stamps than others. Ones for input and kernel count the stamps.
"""

import numpy as np

import polyconv as pc

ones = np.ones((1, 1, 4, 4))
print(pc.conv_transpose(ones, np.ones((1, 1, 3, 3)), stride=2)[0, 0].astype(int))

# %%
# With a kernel of 4 and a stride of 2 every output inside gets four.

print(pc.conv_transpose(ones, np.ones((1, 1, 4, 4)), stride=2)[0, 0].astype(int))

# %%
# The same as a picture. It moves: each step is one stamp.

uneven = pc.network("transposed 3x3 1 stride 2 nobias").draw(
    x=np.ones((1, 3, 3)), weights={"0.weight": np.ones((1, 1, 3, 3))}
)

# %%
# ``polyconv.check`` knows the pattern, and says what to change.

for advice in pc.check("transposed 3x3 8 stride 2"):
    print(advice)
