"""How the kernels cut their work: sizes that are chosen by shape, and those that are not."""

from dataclasses import dataclass

# One warpgroup multiplies 64 rows; two compute, and a third moves data.
ROWS = 64
COMPUTE = 2
BLOCK = ROWS * COMPUTE
# Channels, or rows under a transposed operand, of one product: 128 bytes of a 16-bit type, the
# widest swizzle of shared memory.
DEPTH = 64
# Tiles of features start at any row, which swizzled bulk copies (made of 8 rows) cannot. They lie
# in shared memory row by row, 8 channels wider, so that reading them meets no bank conflicts.
PITCH = DEPTH + 8

LOAD_REGISTERS, COMPUTE_REGISTERS = 40, 232
_SHARED_MEMORY = 227 * 1024
_MULTIPROCESSORS = 132


@dataclass(frozen=True)
class Tiles:
    """Tile sizes of one launch.

    Attributes:
        columns: output channels of one block, a multiple of 64 up to 256.
        stages: steps whose operands lie in shared memory at once.
        splits: parts into which a sum over rows is cut, each a block of its own.
    """

    columns: int
    stages: int
    splits: int = 1


def product_tiles(steps: int, columns: int) -> Tiles:
    """Tiles of `product`."""
    n = _columns(columns)
    step = _FEATURES + n * DEPTH * 2 + 2 * BLOCK * 4
    return Tiles(n, _stages(step, 2 * _FEATURES + 2 * _OPERAND, steps))


def kernel_gradient_tiles(taps: int, rows: int, channels: int, columns: int) -> Tiles:
    """Tiles of `kernel_gradient`; enough parts of the rows to keep every multiprocessor busy."""
    n = _columns(columns)
    blocks = taps * -(-channels // BLOCK) * -(-columns // n)
    steps = -(-rows // DEPTH)
    splits = max(1, min(_MULTIPROCESSORS // blocks, steps // 16))
    step = 2 * _FEATURES + n * DEPTH * 2 + 2 * DEPTH * 4
    return Tiles(n, _stages(step, _OPERAND, -(-steps // splits)), splits)


def map_gradient_tiles(steps: int, channels: int) -> Tiles:
    """Tiles of `map_gradient`, whose columns are the channels of U."""
    n = _columns(channels)
    pairs = 2 * (2 * _FEATURES + 2 * BLOCK * 4)
    return Tiles(n, _stages((BLOCK + n) * DEPTH * 2, pairs + 2 * BLOCK * 4, steps))


# Bytes of a tile of features, and of the left operands of both warpgroups.
_FEATURES, _OPERAND = BLOCK * PITCH * 2, BLOCK * DEPTH * 2


def _columns(channels: int) -> int:
    return min(256, -(-channels // DEPTH) * DEPTH)


def _stages(step_bytes: int, fixed_bytes: int, steps: int) -> int:
    room = _SHARED_MEMORY - 1024 - fixed_bytes
    return min(4, room // step_bytes, max(2, steps))
