"""
What would a cheaper kind cost?
===============================

A standard 3x3 layer of 64 channels beside the other kinds that could stand in its place, by parameters and
multiply-accumulates.
"""

import polyconv as pc

comparison = pc.compare("conv 3x3 64 same", (1, 64, 56, 56))
for row in comparison.rows:
    print(f"{row.kind:22} {row.report.params:7,} parameters {row.report.macs:12,} MACs")

# %%
# The same as a chart. ``comparison.timed()`` would add the times on this machine.

chart = pc.draw_costs(comparison)
