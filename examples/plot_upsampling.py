"""
Two ways to enlarge a photograph
================================

A transposed convolution with a kernel of 3 and a stride of 2 leaves a pattern, even with smooth weights;
repeated pixels and a convolution do not.
"""

import numpy as np
from PIL import Image

import polyconv as pc
from polyconv.images import photograph

part = photograph()[60:140, 120:240]
small = np.ascontiguousarray(np.moveaxis(part, -1, 0)[None])  # (1, 3, 80, 120)
box = np.full((3, 3), 4 / 9, np.float32)  # sums to 4: each pixel becomes four
per_colour = np.zeros((3, 3, 3, 3), np.float32)
for colour in range(3):
    per_colour[colour, colour] = box

stamped = pc.conv_transpose(small, per_colour, stride=2, padding=1, output_padding=1)
net = pc.network("upsample 2 | conv 3x3 3 same replicate nobias")
resized = net.bind({"1.weight": per_colour / 4})(small)
print(stamped.shape, resized.shape)

# %%
# Left the transposed convolution, right upsampling and a convolution.

both = np.concatenate([stamped[0], resized[0]], axis=-1)
picture = Image.fromarray((np.clip(np.moveaxis(both, 0, -1), 0, 1) * 255).astype(np.uint8))

# %%
# A picture of ones shows the pattern alone: how many stamps each output gets, times their weight.

ones = np.ones((1, 1, 4, 4), np.float32)
pattern = pc.conv_transpose(ones, box[None, None], stride=2, padding=1, output_padding=1)
print(pattern[0, 0].round(2))
