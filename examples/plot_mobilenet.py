"""
Where a network's cost lies
===========================

MobileNet v1, counted by kind of layer: nearly all multiply-accumulates are in pointwise layers, though the
depthwise ones are as many.
"""

from collections import Counter

import polyconv as pc

net = pc.architectures.mobilenet_v1()
report = net.count((1, 3, 224, 224))
macs: Counter[str] = Counter()
for row in report.rows:
    macs[row.text.split()[0]] += row.macs
for kind, count in macs.most_common():
    if count:
        print(f"{kind:10} {count:13,} MACs  {100 * count / report.macs:5.1f} %")
print(f"{'total':10} {report.macs:13,} MACs, {report.params:,} parameters")

# %%
# One of its blocks at work, on two channels:

block = pc.network("depthwise 3x3 same | pointwise 2").draw((4, 4), 2)
