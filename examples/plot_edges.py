"""
Edges of a photograph
=====================

Three 3x3 filters on the photograph that ships with polyconv: upright edges, level edges, and fine detail.
"""

import numpy as np
from PIL import Image

import polyconv as pc
from polyconv.images import photograph

photo = photograph()  # (height, width, 3), values from 0 to 1
grey = photo.mean(axis=-1)[None, None]  # (batch, channels, height, width)
upright = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 4
detail = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
weight = np.stack([upright, upright.T, detail])[:, None]  # (out, in, height, width)

edges = pc.conv(grey, weight, padding="same", padding_mode="replicate")
print(edges.shape)

# %%
# Grey is zero; brighter and darker show the sign.

shown = np.clip(np.concatenate(list(edges[0]), axis=1) * 3 + 0.5, 0, 1)
picture = Image.fromarray((shown * 255).astype(np.uint8))
