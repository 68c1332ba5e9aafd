"""
From standard to depthwise: one number
======================================

The number of groups leads from a standard layer, in which every output channel reads every input channel, to
a depthwise one, in which each reads its own.
"""

import polyconv as pc

for groups in (1, 2, 4):
    report = pc.network(f"conv 3x3 4 groups {groups} nobias").count((1, 4, 6, 6))
    print(f"{groups} groups: {report.params:3} weights, {report.macs:5,} MACs")

# %%
# Two groups at work: outputs 0 and 1 read the first two channels, outputs 2 and 3 the others.

two = pc.network("conv 3x3 4 groups 2 nobias").draw((4, 4), 4)

# %%
# With neighbouring grouped layers, filters of one layer go together with filters of the same group in the next. Their
# correlation shows blocks.

pair = "conv 3x3 16 same groups 4 | conv 3x3 16 same groups 4"
blocks = pc.draw_correlation(pair, in_channels=8)
