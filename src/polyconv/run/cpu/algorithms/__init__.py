"""The algorithms, one file each: what is computed, in which loops. ``record.py`` says how to add one."""

from polyconv.run.cpu.algorithms.dense import DENSE
from polyconv.run.cpu.algorithms.dense_dot import DENSE_DOT
from polyconv.run.cpu.algorithms.dense_planar import DENSE_PLANAR
from polyconv.run.cpu.algorithms.dense_rows import DENSE_ROWS
from polyconv.run.cpu.algorithms.depthwise import DEPTHWISE
from polyconv.run.cpu.algorithms.fourier import FOURIER
from polyconv.run.cpu.algorithms.grouped import GROUPED
from polyconv.run.cpu.algorithms.planes import PLANES
from polyconv.run.cpu.algorithms.pooling import POOLING
from polyconv.run.cpu.algorithms.record import Algorithm
from polyconv.run.cpu.algorithms.subpixel import SUBPIXEL
from polyconv.run.cpu.algorithms.winograd import WINOGRAD
from polyconv.run.cpu.algorithms.winograd_planar import WINOGRAD_PLANAR

ALGORITHMS: tuple[Algorithm, ...] = (
    DENSE,
    DENSE_DOT,
    DENSE_PLANAR,
    DENSE_ROWS,
    DEPTHWISE,
    FOURIER,
    GROUPED,
    PLANES,
    POOLING,
    SUBPIXEL,
    WINOGRAD,
    WINOGRAD_PLANAR,
)
