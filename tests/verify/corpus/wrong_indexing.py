"""Wrong rules of what moves values about: embeddings, gathers, segments, orders, slices."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from .kinds import Draw
from .registry import Family, Mistake, Rule


def embedding(size: int, seed: int, mistake: str) -> Rule:
    """Rows of a table, scaled, zeros for the id 0 that pads, plus a row for each position."""
    draw = Draw(seed)
    batch, time, count, width = 3, size, size + 1, size + 2
    root = math.sqrt(width)

    def function(table, positions, ids):
        return jnp.where((ids == 0)[..., None], 0.0, table[ids] * root) + positions[: ids.shape[1]]

    def forward(table, positions, ids):
        return function(table, positions, ids), (table, positions, ids)

    def backward(residuals, d_y):
        table, positions, ids = residuals
        d_rows = jnp.where((ids == 0)[..., None], 0.0, d_y * root)
        d_table = jnp.zeros_like(table).at[ids].add(d_rows)
        d_positions = jnp.zeros_like(positions).at[:time].set(d_y.sum(0))
        match mistake:
            case "duplicates overwritten":
                d_table = jnp.zeros_like(table).at[ids].set(d_rows)
            case "averaged over occurrences":
                occurrences = jnp.zeros(count, d_y.dtype).at[ids].add(1.0)
                d_table = d_table / jnp.maximum(occurrences, 1.0)[:, None]
            case "padding leaks":
                d_table = jnp.zeros_like(table).at[ids].add(d_y * root)
            case "scale forgotten":
                d_table = d_table / root
            case "scale twice":
                d_table = d_table * root
            case "ids from 1":
                d_table = jnp.zeros_like(table).at[ids + 1].add(d_rows)
            case "last row of the table":
                d_table = d_table.at[-1].set(0.0)
            case "first example alone":
                d_table = jnp.zeros_like(table).at[ids[0]].add(d_rows[0])
            case "table without gradient":
                d_table = None
            case "padding's positions dropped":
                d_positions = d_positions.at[:time].set(jnp.where((ids == 0)[..., None], 0.0, d_y).sum(0))
            case "positions averaged":
                d_positions = d_positions / batch
            case "positions of the first example":
                d_positions = d_positions.at[:time].set(d_y[0])
            case "positions at the end":
                d_positions = jnp.roll(d_positions, 2, 0)
            case "positions scaled too":
                d_positions = d_positions * root
        return d_table, d_positions, None

    ids = draw.ids(count, batch, time)
    ids[:, -1], ids[0, 0], ids[1, :2] = 0, count - 1, 1  # padding, the last id, and one that occurs twice
    return Rule(function, forward, backward, (draw.normal(count, width), draw.normal(time + 2, width), ids))


EMBEDDING = Family(
    "embedding",
    embedding,
    (
        Mistake("duplicates overwritten", "duplicate ids overwritten", "duplicates", "table"),
        Mistake("averaged over occurrences", "averaged", "duplicates, missing factor, extra factor", "table"),
        Mistake("padding leaks", "padding leaks", "padding, region", "table"),
        Mistake("scale forgotten", "factor", "factor", "table", says=("sqrt",)),
        Mistake("scale twice", "factor", "factor", "table", says=("sqrt",)),
        Mistake("ids from 1", "off by one", "shifted", "table"),
        Mistake("last row of the table", "last row dropped", "region", "table", says=("last",)),
        Mistake("first example alone", "overwritten in a loop", "missing sum, as if, region, missing term", "table"),
        Mistake("table without gradient", "gradient lost", "missing", "table"),
        Mistake("padding's positions dropped", "mask where none belongs", "padding, as if, unknown", "positions"),
        Mistake("positions averaged", "averaged", "factor", "positions"),
        Mistake(
            "positions of the first example", "summed over too few", "missing sum, region, partial sum", "positions"
        ),
        Mistake("positions at the end", "off by more than one", "shifted", "positions"),
        Mistake("positions scaled too", "factor", "factor", "positions"),
    ),
)


def tied_output(size: int, seed: int, mistake: str) -> Rule:
    """A language model's table at both ends."""
    draw = Draw(seed)
    count, width = size + 1, size

    def function(table, ids):
        return jnp.tanh(table[ids]) @ table.T

    def forward(table, ids):
        hidden = jnp.tanh(table[ids])
        return hidden @ table.T, (table, ids, hidden)

    def backward(residuals, d_y):
        table, ids, hidden = residuals
        d_rows = (d_y @ table) * (1 - jnp.square(hidden))
        below, above = jnp.zeros_like(table).at[ids].add(d_rows), d_y.T @ hidden
        match mistake:
            case "output overwrites input":
                return above, None
            case "input overwrites output":
                return below, None
            case "input rows overwritten":
                return above + jnp.zeros_like(table).at[ids].set(d_rows), None
            case "output rows of ids alone":
                return jnp.zeros_like(table).at[ids].add(d_rows + above[ids]), None
            case "input twice":
                return above + 2 * below, None
        return above + below, None

    ids = np.append(draw.ids(count, size + 2), [2, 2]).astype(np.int32)
    return Rule(function, forward, backward, (draw.normal(count, width) / np.float32(2), ids))


TIED_OUTPUT = Family(
    "tied output",
    tied_output,
    (
        Mistake("output overwrites input", "a tied weight overwritten", "missing term", "table"),
        Mistake("input overwrites output", "a tied weight overwritten", "missing term", "table"),
        Mistake("input rows overwritten", "duplicate ids overwritten", "duplicates", "table"),
        Mistake(
            "output rows of ids alone", "a tied weight overwritten", "duplicates, missing term, as if, unknown", "table"
        ),
        Mistake("input twice", "a term twice", "doubled term", "table"),
    ),
)


def segments(size: int, seed: int, mistake: str) -> Rule:
    """The mean of each segment's rows, weighted."""
    draw = Draw(seed)
    rows, count = size + 4, 4

    def totals(a, ids):
        return jax.ops.segment_sum(a, ids, count)

    def function(values, weights, ids):
        return totals(weights[:, None] * values, ids) / totals(weights, ids)[:, None]

    def forward(values, weights, ids):
        y = function(values, weights, ids)
        return y, (values, weights, ids, y)

    def backward(residuals, d_y):
        values, weights, ids, y = residuals
        d_mean = d_y / totals(weights, ids)[:, None]
        d_values = weights[:, None] * d_mean[ids]
        d_weights = (d_mean[ids] * (values - y[ids])).sum(1)
        match mistake:
            case "not divided":
                d_values = weights[:, None] * d_y[ids]
            case "divided by rows":
                d_values = d_values * (totals(weights, ids) / totals(jnp.ones_like(weights), ids))[ids][:, None]
            case "weights forgotten":
                d_values = d_mean[ids]
            case "segments in reverse":
                d_values = weights[:, None] * d_mean[::-1][ids]
            case "ids in reverse":
                d_values = weights[:, None] * d_mean[ids[::-1]]
            case "first row of each segment":
                first = jnp.concatenate([jnp.ones(1, bool), ids[1:] != ids[:-1]])
                d_values = jnp.where(first[:, None], d_values, 0.0)
            case "total weight as a constant":
                d_weights = (d_mean[ids] * values).sum(1)
            case "total weight alone":
                d_weights = -(d_mean[ids] * y[ids]).sum(1)
            case "weights not summed":
                d_weights = d_mean[ids] * (values - y[ids])
        return d_values, d_weights, None

    ids = np.sort(np.append(draw.ids(count, rows - count), np.arange(count))).astype(np.int32)
    return Rule(function, forward, backward, (draw.normal(rows, size), draw.positive(rows), ids))


SEGMENTS = Family(
    "segment mean",
    segments,
    (
        Mistake("not divided", "missing 1/N", "missing factor, other function, unknown", "values"),
        Mistake(
            "divided by rows",
            "1/N for 1/sum of weights",
            "missing factor, extra factor, other function, unknown",
            "values",
        ),
        Mistake("weights forgotten", "a factor forgotten", "missing factor", "values"),
        Mistake("segments in reverse", "order along an axis", "flipped, as if, unknown", "values"),
        Mistake("ids in reverse", "order along an axis", "flipped, as if, unknown", "values"),
        Mistake("first row of each segment", "duplicate ids overwritten", "duplicates, region, unknown", "values"),
        Mistake("total weight as a constant", "a term missing", "missing term", "weights"),
        Mistake("total weight alone", "a term missing", "missing term", "weights"),
        Mistake("weights not summed", "a broadcast axis not summed", "missing sum", "weights", says=("axis 1",)),
    ),
)


def order(size: int, seed: int, mistake: str) -> Rule:
    """Rows in another order, their running sum, and a difference of neighbours."""
    draw = Draw(seed)
    rows = size + 1

    def function(x, permutation):
        moved = x[permutation]
        return {"sum": jnp.cumsum(moved, 0), "difference": moved[1:] - moved[:-1]}

    def forward(x, permutation):
        return function(x, permutation), permutation

    def backward(permutation, d_y):
        by_sum = jnp.cumsum(d_y["sum"][::-1], 0)[::-1]
        later, earlier = jnp.pad(d_y["difference"], ((1, 0), (0, 0))), jnp.pad(d_y["difference"], ((0, 1), (0, 0)))
        match mistake:
            case "sum in the forward direction":
                by_sum = jnp.cumsum(d_y["sum"], 0)
            case "sum of one":
                by_sum = d_y["sum"]
            case "sum without its own":
                by_sum = by_sum - d_y["sum"]
            case "difference's sign":
                later, earlier = -later, -earlier
            case "earlier neighbour forgotten":
                earlier = jnp.zeros_like(earlier)
            case "neighbours exchanged":
                later, earlier = earlier, later
            case "sum forgotten":
                by_sum = jnp.zeros_like(by_sum)
        d_moved = by_sum + later - earlier
        if mistake == "permuted again":
            return d_moved[permutation], None
        if mistake == "not permuted":
            return d_moved, None
        return jnp.zeros_like(d_moved).at[permutation].set(d_moved), None

    permutation = np.roll(np.arange(rows), 2)[draw.permutation(rows)].astype(np.int32)
    if (permutation[permutation] == np.arange(rows)).all():
        permutation = np.roll(np.arange(rows), 1).astype(np.int32)
    return Rule(function, forward, backward, (draw.normal(rows, size), permutation))


ORDER = Family(
    "order",
    order,
    (
        Mistake("sum in the forward direction", "direction of a scan", "flipped, other function, as if, unknown", "x"),
        Mistake("sum of one", "a sum forgotten", "missing sum, missing term, other function, unknown", "x"),
        Mistake("sum without its own", "off by one", "shifted, other function, missing term, unknown", "x"),
        Mistake("difference's sign", "sign of a term", "doubled term, unknown", "x"),
        Mistake("earlier neighbour forgotten", "a term missing", "missing term", "x"),
        Mistake("neighbours exchanged", "two terms swapped", "swapped, doubled term, sign, unknown", "x"),
        Mistake("sum forgotten", "a term missing", "missing term", "x"),
        Mistake("permuted again", "permuted for its inverse", "shifted, shifted, as if, unknown", "x"),
        Mistake("not permuted", "permutation forgotten", "as if, unknown", "x"),
    ),
)


def slices(size: int, seed: int, mistake: str) -> Rule:
    """Two arrays joined, padded and cut."""
    draw = Draw(seed)
    rows, left, right = size, size, size + 2

    def function(first, second):
        joined = jnp.concatenate([first, 2 * second], 1)
        return jnp.pad(joined, ((0, 0), (2, 1)), mode="edge")[:, 1:]

    def forward(first, second):
        return function(first, second), None

    def backward(_, d_y):
        d_joined = d_y[:, 1:-1].at[:, 0].add(d_y[:, 0]).at[:, -1].add(d_y[:, -1])
        if mistake == "edge's copies forgotten":
            d_joined = d_y[:, 1:-1]
        if mistake == "cut one place early":
            d_joined = d_y[:, :-2].at[:, 0].add(d_y[:, -1])
        at = {"split one place late": left + 1}.get(mistake, left)
        d_first, d_second = d_joined[:, :left], 2 * d_joined[:, at:]
        match mistake:
            case "split one place late":
                d_second = jnp.pad(d_second, ((0, 0), (0, 1)))
            case "second unscaled":
                d_second = d_second / 2
            case "split from the other side":
                d_first = d_joined[:, -left:]
            case "first from the second's place":
                d_first = d_second[:, :left]
            case "second padded with zeros":
                d_second = d_second.at[:, -1].set(0.0)
            case "first reversed":
                d_first = d_first[:, ::-1]
        return d_first, d_second

    return Rule(function, forward, backward, (draw.normal(rows, left), draw.normal(rows, right)))


SLICES = Family(
    "slices",
    slices,
    (
        Mistake("edge's copies forgotten", "padding's gradient lost", "region, missing term", "first", "second"),
        Mistake("cut one place early", "off by one", "shifted, region, as if, unknown", "first", "second"),
        Mistake("split one place late", "off by one", "shifted", "second"),
        Mistake("second unscaled", "factor", "factor", "second"),
        Mistake("split from the other side", "off by more than one", "other leaf, shifted, as if, unknown", "first"),
        Mistake("first from the second's place", "the cotangent of another leaf", "other leaf, unknown", "first"),
        Mistake("second padded with zeros", "last row dropped", "region", "second", says=("last",)),
        Mistake("first reversed", "order along an axis", "flipped", "first", says=("axis 1",)),
    ),
)

FAMILIES = (EMBEDDING, TIED_OUTPUT, SEGMENTS, ORDER, SLICES)
