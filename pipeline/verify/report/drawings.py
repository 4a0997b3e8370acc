"""Arrays of any rank as pictures: laid out on a plane, reduced to as many cells as one can see, and drawn.

Negative numbers are blue, positive ones red, and zero has the colour of the page. Errors grow from the colour of the
page into that of failures. Colour-blind people can tell both pairs of colours apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...extras import extra
from ...report.plots import LIGHT, Theme

with extra("report"):
    import matplotlib as mpl
with extra("report"):
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

CELLS = 64
"""The most rows and columns of a picture; in that of a larger array, each cell is the largest number of a block."""

# Inches. A wide page has three pictures side by side, a phone one.
WIDTH, LEFT, RIGHT, TOP = 2.85, 0.6, 0.1, 0.06
LARGEST_CELL, HIGHEST, LOWEST = 0.45, 2.6, 0.26
WRITTEN = 0.4, 0.17
"""The smallest width and height of a cell in which its number is written."""


@dataclass(frozen=True)
class Axis:
    """One axis of an array, or several adjacent ones merged: their ``names`` and ``sizes``.

    limit: the most blocks that it is reduced to.
    """

    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    limit: int = CELLS

    @property
    def size(self) -> int:
        return math.prod(self.sizes)

    @property
    def starts(self) -> np.ndarray:
        """The first index of each block."""
        count = min(self.size, self.limit)
        return np.arange(count) * self.size // count

    @property
    def name(self) -> str:
        if len(self.names) < 2:
            return "".join(self.names)
        numbers = [name.removeprefix("axis ") for name in self.names]
        return f"axes {', '.join(numbers)}"

    def block(self, index: Sequence[int]) -> int:
        """The block that contains an index, which has one number for each of the merged axes."""
        flat = int(np.ravel_multi_index(tuple(index), self.sizes)) if self.sizes else 0
        return self._block(flat)

    def _block(self, flat: int) -> int:
        return int(np.searchsorted(self.starts, flat, "right")) - 1

    def ticks(self, inches: float, across: bool) -> tuple[list[int], list[str]]:
        """The blocks with a label, and the labels: indices at equal round steps, as many as there is room for."""
        needed = 0.075 * len(self._label(self.size - 1)) + 0.1 if across else 0.14
        most = max(1, min(8, int(inches / needed)))
        steps = (step * 10**power for power in range(18) for step in (1, 2, 5))
        step = next(step for step in steps if (self.size - 1) // step < most)
        flat = range(0, self.size if self.sizes else 0, step)
        return [self._block(i) for i in flat], [self._label(i) for i in flat]

    def _label(self, flat: int) -> str:
        index = np.unravel_index(flat, self.sizes)
        words = [("re", "im")[i] if name == "part" else str(i) for name, i in zip(self.names, index)]
        return ",".join(words)


@dataclass(frozen=True, eq=False)
class Sheet:
    """An array on a plane: a grid of tiles, each of which shows the last two axes; a matrix is a single tile.

    axes: down the grid, across the grid, down a tile, across a tile.
    blocks: the reduced array, with these four axes.
    """

    axes: tuple[Axis, Axis, Axis, Axis]
    blocks: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, names: Sequence[str]) -> "Sheet":
        """The sheet of an array; ``names`` are those of its axes."""
        axes = _limit(_arrange(array.shape, names))
        values = array.reshape([axis.size for axis in axes])
        for i, axis in enumerate(axes):
            high, low = (extreme.reduceat(values, axis.starts, axis=i) for extreme in (np.maximum, np.minimum))
            values = np.where(np.abs(low) > np.abs(high), low, high)
        return cls(axes, values)

    @property
    def is_reduced(self) -> bool:
        return any(axis.size > axis.limit for axis in self.axes)

    @property
    def is_tiled(self) -> bool:
        return any(axis.sizes for axis in self.axes[:2])

    @property
    def cells(self) -> np.ndarray:
        """The picture's cells, by row and column."""
        down, across, rows, columns = self.blocks.shape
        return self.blocks.transpose(0, 2, 1, 3).reshape(down * rows, across * columns)

    def cell(self, index: Sequence[int]) -> tuple[int, int]:
        """Row and column of the cell that contains an element of the array."""
        blocks, rest = [], list(index)
        for axis in self.axes:
            blocks.append(axis.block(rest[: len(axis.sizes)]))
            rest = rest[len(axis.sizes) :]
        down, across, row, column = blocks
        return down * self.blocks.shape[2] + row, across * self.blocks.shape[3] + column

    def ticks(self, inches: float, across: bool) -> tuple[list[float], list[str], str]:
        """Positions and labels of ticks, and the axis' name; of the tiles, if there are several. Down or ``across``."""
        grid, tile = self.axes[across], self.axes[2 + across]
        if not grid.sizes:
            blocks, labels = tile.ticks(inches, across)
            return [float(block) for block in blocks], labels, tile.name
        length = len(tile.starts)
        blocks, labels = grid.ticks(inches, across)
        return [block * length + (length - 1) / 2 for block in blocks], labels, grid.name

    def description(self) -> str:
        """The axes inside a tile, which have no labels."""
        names = [axis.name for axis in self.axes[2:]]
        return f"in each tile {names[0]} runs down and {names[1]} across" if self.is_tiled else ""


def _arrange(shape: Sequence[int], names: Sequence[str]) -> tuple[Axis, Axis, Axis, Axis]:
    """The last two axes in a tile; the others, in order, down and across the grid of tiles."""
    each = [Axis((name,), (size,)) for name, size in zip(names, shape)]
    if len(each) < 3:
        rows, columns = [Axis()] * (2 - len(each)) + each
        return Axis(), Axis(), rows, columns
    rows, columns = each[-2:]
    if len(each) == 3:  # tiles side by side or one below the other, whichever is closer to a square
        height, width, count = rows.size, columns.size, each[0].size
        is_tall = abs(math.log(count * height / width)) < abs(math.log(height / (count * width)))
        return (each[0], Axis(), rows, columns) if is_tall else (Axis(), each[0], rows, columns)
    return Axis(tuple(names[:-3]), tuple(shape[:-3])), each[-3], rows, columns


def _limit(axes: tuple[Axis, Axis, Axis, Axis]) -> tuple[Axis, Axis, Axis, Axis]:
    """The axes with limits: at most ``CELLS`` cells in each direction, and enough cells in every tile."""
    limits = [CELLS] * 4
    for grid, tile in ((0, 2), (1, 3)):
        limits[grid] = min(axes[grid].size, max(8, CELLS // axes[tile].size))
        limits[tile] = CELLS // limits[grid]
    down, across, rows, columns = (Axis(axis.names, axis.sizes, limit) for axis, limit in zip(axes, limits))
    return down, across, rows, columns


def heat_map(sheet: Sheet, limit: float, worst: Sequence[int] | None, theme: Theme, signed: bool = True) -> Figure:
    """The sheet's numbers as colours, from -``limit`` (from 0, unless ``signed``) to ``limit``.

    worst: the index of the element to be framed. What is not finite is striped.
    """
    cells = sheet.cells
    rows, columns = cells.shape
    width = min(WIDTH - LEFT - RIGHT, columns * LARGEST_CELL)
    height = float(np.clip(width / columns * rows, LOWEST, HIGHEST))
    down, down_labels, down_name = sheet.ticks(height, across=False)
    across, across_labels, across_name = sheet.ticks(width, across=True)
    below = (0.24 if across else 0.06) + (0.2 if across_name else 0)
    figure = Figure(figsize=(WIDTH, TOP + height + below + 0.38))
    axes = _box(figure, LEFT, TOP, width, height)
    colours = _colours(theme, signed)
    low = -1.0 if signed else 0.0
    shares = cells / (
        limit or 1.0
    )  # matplotlib takes differences, which near float64's largest numbers it does not hold
    axes.imshow(shares, cmap=colours.with_extremes(bad=theme.grid), vmin=low, vmax=1, aspect="auto")
    if width / columns >= WRITTEN[0] and height / rows >= WRITTEN[1]:
        _write(axes, cells, shares, colours, low, theme)
    else:
        _stripe(axes, ~np.isfinite(cells), theme)
    for start in range(1, sheet.blocks.shape[0]):
        axes.axhline(start * sheet.blocks.shape[2] - 0.5, color=theme.text, linewidth=0.8, alpha=0.6)
    for start in range(1, sheet.blocks.shape[1]):
        axes.axvline(start * sheet.blocks.shape[3] - 0.5, color=theme.text, linewidth=0.8, alpha=0.6)
    if worst is not None:
        _frame(axes, sheet.cell(worst), (width / columns, height / rows), theme)
    axes.set_xticks(across, across_labels)
    axes.set_yticks(down, down_labels)
    axes.set_xlabel(across_name, fontsize=8)
    axes.set_ylabel(down_name, fontsize=8)
    axes.yaxis.set_label_coords(-(LEFT - 0.18) / width, 0.5)
    _bare(axes, theme)
    _scale(figure, max(width, 1.5), colours, limit, low, theme)
    return figure


def profile(shares: np.ndarray, axis: int, theme: Theme) -> Figure:
    """The largest error at each index of an axis, as a share of the largest of all."""
    along = Axis((f"axis {axis}",), (shares.size,))
    heights = np.maximum.reduceat(shares, along.starts)
    figure = Figure(figsize=(WIDTH, 1.35))
    axes = _box(figure, LEFT, 0.12, WIDTH - LEFT - RIGHT, 0.78)
    # A small error stays visible; rounding is drawn as nothing.
    axes.bar(range(len(heights)), np.where(heights > 1e-9, np.maximum(heights, 0.03), 0), 0.84, color=theme.wrong)
    axes.set_xticks(*along.ticks(WIDTH - LEFT - RIGHT, across=True))
    axes.set_yticks([0, 1], ["0", "max"])
    axes.set(xlim=(-0.6, len(heights) - 0.4), ylim=(0, 1.05))
    axes.set_xlabel(along.name, fontsize=8)
    axes.grid(False, axis="x")
    axes.tick_params(labelsize=8)
    return figure


def _colours(theme: Theme, signed: bool) -> Colormap:
    if signed:
        return mpl.colormaps["RdBu_r" if theme is LIGHT else "berlin"]
    return LinearSegmentedColormap.from_list("error", [theme.background, theme.wrong])


def _box(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _write(axes: Axes, cells: np.ndarray, shares: np.ndarray, colours: Colormap, low: float, theme: Theme) -> None:
    """Writes every number into its cell, in black or white, whichever is easier to read there."""
    for (row, column), share in np.ndenumerate(shares):
        colour = theme.text
        if np.isfinite(share):
            red, green, blue, _ = colours((float(share) - low) / (1 - low))
            colour = "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#1f2430"
        texts = [short(float(cells[row, column]), digits) for digits in (3, 2, 1)]
        text = next((text for text in texts if len(text) <= 6), texts[-1])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)


def _stripe(axes: Axes, where: np.ndarray, theme: Theme) -> None:
    if where.any():
        rows, columns = where.shape
        stripes = np.add.outer(range(8), range(8)) % 4 < 2
        image = np.kron(where, np.ones((8, 8), bool)) * np.where(np.tile(stripes, where.shape), 2, 1)
        colours = LinearSegmentedColormap.from_list("stripes", [(0, 0, 0, 0), theme.background, theme.text], N=3)
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        axes.imshow(image, cmap=colours, vmin=0, vmax=2, extent=extent, aspect="auto", interpolation="nearest")


def _frame(axes: Axes, cell: tuple[int, int], size: tuple[float, float], theme: Theme) -> None:
    """Draws a frame around a cell, of at least a tenth of an inch."""
    (row, column), (width, height) = cell, (max(1.0, 0.1 / inches) for inches in size)
    corner = column - width / 2, row - height / 2
    for colour, line in ((theme.background, 3.0), (theme.text, 1.3)):
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line, clip_on=False))


def _scale(figure: Figure, width: float, colours: Colormap, limit: float, low: float, theme: Theme) -> None:
    """Draws the colour scale with the numbers at its ends, at the foot of the figure."""
    _, down = figure.get_size_inches()
    axes = _box(figure, LEFT, down - 0.3, width, 0.08)
    axes.imshow(np.linspace(low, 1, 256)[None], cmap=colours, vmin=low, vmax=1, aspect="auto", extent=(low, 1, 0, 1))
    ends = [(low, "left"), (0.0, "center"), (1.0, "right")] if low else [(0.0, "left"), (1.0, "right")]
    if not limit:
        ends = [(0.0, "center" if low else "left")]
    axes.set(xticks=[], yticks=[])
    for place, align in ends:
        axes.text(place, -0.6, short(place * limit), ha=align, va="top", fontsize=8)
    _bare(axes, theme)


def _bare(axes: Axes, theme: Theme) -> None:
    axes.grid(False)
    axes.tick_params(labelsize=8)
    axes.spines[:].set(visible=True, color=theme.grid)


def short(number: float, digits: int = 3) -> str:
    """A number in few characters; with a power of ten it has one digit fewer.

    >>> short(12.3456), short(123456.0)
    ('12.3', '1.2e5')
    """
    text = f"{number:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    return f"{float(mantissa):.{max(1, digits - 1)}g}e{int(exponent)}" if exponent else text


def planes(array: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The array in float64 and its axes' names; a complex one has its two parts along a new first axis."""
    names = [f"axis {axis}" for axis in range(array.ndim)]
    if np.iscomplexobj(array):
        return np.stack([np.real(array), np.imag(array)]).astype(np.float64), ["part", *names]
    return array.astype(np.float64), names
