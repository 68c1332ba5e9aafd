"""
A photograph through a network
==============================

A few channels after each stage, of a network with hand-made first filters: edges in two directions, their
strength, and the strongest of each 2x2 block.
"""

import numpy as np

import polyconv as pc

net = pc.network("conv 3x3 4 same replicate relu nobias | pointwise 1 nobias | maxpool 2x2")
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
edges = np.stack([sobel, -sobel, sobel.T, -sobel.T])[:, None] / 12
weights = {
    "0.weight": np.repeat(edges, 3, axis=1),  # the same for each colour
    "1.weight": np.ones((1, 4, 1, 1), np.float32),
}
maps = pc.draw_features(net, weights=weights, input_size=(148, 224))
