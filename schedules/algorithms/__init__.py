"""Every convolution algorithm: one file or folder each, one contract, one registry."""

from schedules.algorithms.base import Algorithm, LayerAlgorithm, Registry, Unsupported
from schedules.algorithms.dense import Dense
from schedules.algorithms.depthwise import Depthwise
from schedules.algorithms.direct import Direct
from schedules.algorithms.fused_block.fused_block import FusedBlock
from schedules.algorithms.im2col import Im2col
from schedules.algorithms.im2col_tiled import Im2colTiled
from schedules.algorithms.indirect import Indirect
from schedules.algorithms.kn2col import Kn2col
from schedules.algorithms.kn2col_as import Kn2colAs
from schedules.algorithms.kn2row import Kn2row
from schedules.algorithms.kn2row_aa import Kn2rowAa
from schedules.algorithms.kn2row_as import Kn2rowAs
from schedules.algorithms.mec import Mec
from schedules.algorithms.mec_strip import MecStrip
from schedules.algorithms.pooled_rows import PooledRows
from schedules.algorithms.row_chain.row_chain import RowChainAlgorithm
from schedules.algorithms.sparse_direct.sparse_direct import SparseDirect
from schedules.algorithms.sparse_winograd.sparse_winograd import SparseWinograd
from schedules.algorithms.strassen.strassen import Strassen
from schedules.algorithms.volumes.indirect3d import Indirect3d
from schedules.algorithms.volumes.winograd3d import Winograd3d
from schedules.algorithms.winograd.winograd import Winograd

__all__ = ["REGISTRY", "Algorithm", "LayerAlgorithm", "Registry", "Unsupported"]

#: The algorithms that can be named on a command line.
REGISTRY = Registry()
for _algorithm in (
    Dense(),
    Indirect(),
    Im2col(),
    Im2colTiled(),
    Mec(),
    MecStrip(),
    Kn2row(),
    Kn2col(),
    Kn2rowAs(),
    Kn2colAs(),
    Kn2rowAa(),
    Winograd(),
    SparseWinograd(),
    SparseDirect(),
    Strassen(),
    Depthwise(),
    Direct(),
    FusedBlock(),
    PooledRows(),
    RowChainAlgorithm(),
    Indirect3d(),
    Winograd3d(),
):
    REGISTRY.add(_algorithm)
