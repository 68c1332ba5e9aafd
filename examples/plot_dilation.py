"""
A receptive field that grows
============================

Three 3x3 layers see 7x7 pixels. With dilations of 1, 2 and 4 they see 15x15, with as many weights; with the
same dilation throughout they leave holes.
"""

import polyconv as pc

plain = "3 * (conv 3x3 8 same)"
growing = "conv 3x3 8 same | conv 3x3 8 dilation 2 same | conv 3x3 8 dilation 4 same"
equal = "3 * (conv 3x3 8 dilation 4 same)"
for text in (plain, growing, equal):
    print(pc.receptive_field(text).size, pc.network(text).count((1, 8, 64, 64)).params, text)

# %%
# Over a photograph, layer by layer:

field = pc.draw_field(growing, input_size=(96, 144))

# %%
# With a dilation of 4 in each layer, the dark lattice inside the box is never read.

holes = pc.draw_field(equal, input_size=(96, 144))

# %%
# ``polyconv.check`` says so too.

for advice in pc.check(equal):
    print(advice)
