"""
A causal filter on a signal
===========================

Four causal layers with dilations 1, 2, 4 and 8, as in WaveNet: each output sees sixteen samples, none of them
later than itself.
"""

import numpy as np

import polyconv as pc

net = pc.network(" | ".join(f"conv 2 1 dilation {d} causal nobias" for d in (1, 2, 4, 8)))
weights = {name: np.full(shape, 0.5) for name, shape in net.parameters(1).items()}  # each layer averages two samples
mean = net.bind(weights)

signal = np.zeros((1, 1, 40))
signal[..., 10] = 16.0
print(mean(signal)[0, 0])

# %%
# The impulse at 10 is seen by outputs 10 to 25, and by none before it.

print(pc.receptive_field(net).size)

# %%
# The first two layers at work:

drawing = pc.network("conv 2 1 causal nobias | conv 2 1 dilation 2 causal nobias").draw(10)
