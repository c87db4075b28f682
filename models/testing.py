"""For people who write models: made-up alerts, and the checks that every model must pass.

from models.testing import alerts, check
check(open_model(folder), alerts(50))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from models.columns import CUTOUTS
from models.contract import Model

POINT = pa.struct(
    [
        ("mjd", pa.float64()),
        ("band", pa.string()),
        ("flux", pa.float64()),
        ("flux_err", pa.float64()),
        ("kind", pa.string()),
    ]
)
TENSOR = pa.fixed_shape_tensor(pa.float32(), CUTOUTS)
STEADINESS = 1e-5


def alerts(rows: int, seed: int = 0, inputs: Sequence[str] = ()) -> pa.Table:
    """Made-up alerts in flight: stars on noise, light curves of 0 to 30 points, a few source columns.

    inputs: column paths; the source columns among them that are not of those few hold numbers of 10 to 20.
    """
    draw = np.random.default_rng(seed)
    images = draw.normal(100, 5, (rows, *CUTOUTS)).astype(np.float32)
    y, x = np.mgrid[-31:32, -31:32]
    images += draw.lognormal(4, 1, (rows, 3, 1, 1)).astype(np.float32) * np.exp(-(x**2 + y**2) / 8)
    lengths = draw.integers(0, 31, rows)
    lengths[:1] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    total = int(offsets[-1])
    limit = draw.random(total) < 0.3
    now = 60000 + draw.uniform(0, 100, rows)
    age = np.concatenate([np.sort(draw.uniform(0.1, 60, n))[::-1] for n in lengths] or [np.zeros(0)])
    error = draw.uniform(500, 3000, total)
    history = pa.StructArray.from_arrays(
        [
            pa.array(np.repeat(now, lengths) - age),
            pa.array(draw.choice(["g", "r"], total).tolist(), pa.string()),
            pa.array(draw.lognormal(10, 1, total), mask=limit),
            pa.array(error),
            pa.array(
                np.where(limit, "limit", draw.choice(["detection", "forced"], total)).tolist(), pa.string()
            ),
        ],
        fields=list(POINT),
    )
    flux = draw.lognormal(10, 1, rows)
    source = {
        "magpsf": 31.4 - 2.5 * np.log10(flux),
        "sgscore1": draw.random(rows),
        "distpsnr1": draw.uniform(0, 20, rows),
    }
    for path in inputs:
        name, _, child = path.partition(".")
        if name == "source":
            source.setdefault(child, draw.uniform(10, 20, rows))
    return pa.table(
        {
            "survey": pa.array(["ztf"] * rows, pa.string()),
            "alert_id": pa.array(np.arange(rows), pa.int64()),
            "object_id": pa.array([f"ZTF{i}" for i in range(rows)], pa.string()),
            "mjd": now,
            "ra": draw.uniform(0, 360, rows),
            "dec": draw.uniform(-30, 90, rows),
            "band": pa.array(draw.choice(["g", "r"], rows).tolist(), pa.string()),
            "flux": flux,
            "flux_err": flux / draw.uniform(5, 50, rows),
            "history": pa.ListArray.from_arrays(pa.array(offsets), history),
            "source": pa.StructArray.from_arrays([pa.array(v) for v in source.values()], list(source)),
            "cutouts": tensor(images),
            "cutout_shape": pa.array([[63, 63]] * rows, pa.list_(pa.int32(), 2)),
        }
    )


def tensor(images: np.ndarray) -> pa.ExtensionArray:
    """The in-flight column of float32 (rows, 3, 63, 63)."""
    pixels = pa.array(np.ascontiguousarray(images, np.float32).reshape(-1))
    return pa.ExtensionArray.from_storage(
        TENSOR, pa.FixedSizeListArray.from_arrays(pixels, int(np.prod(CUTOUTS)))
    )


def values(scored: pa.Table) -> np.ndarray:
    """float64 (rows, classes): NaN for null."""
    return np.column_stack([c.to_numpy(zero_copy_only=False).astype(float) for c in scored.columns])


def check(model: Model, table: pa.Table) -> None:
    """All that the contract promises, on these alerts (two or more). Raises AssertionError."""
    for promise in PROMISES:
        promise(model, table)


def answers_in_shape(model: Model, table: pa.Table) -> None:
    """One float32 column per class, one row per alert, probabilities that sum to one or nulls all along."""
    assert isinstance(model, Model), f"{model!r} does not have the attributes of the contract"
    found = model.score(table)
    assert found.column_names == list(model.classes), f"columns {found.column_names}, not {model.classes}"
    assert len(found) == len(table), f"{len(found)} rows for {len(table)} alerts"
    assert all(kind == pa.float32() for kind in found.schema.types), f"not float32: {found.schema.types}"
    _finite_or_null(found)
    assert len(model.score(table.slice(0, 0))) == 0, "no alerts must give no rows"


def ignores_neighbours(model: Model, table: pa.Table) -> None:
    """An alert's scores are the same alone, among others in any order, in chunks and on a second call."""
    whole = values(model.score(table))
    _same(values(model.score(table)), whole, "a second call")
    order = np.arange(len(table))[::-1]
    _same(values(model.score(table.take(order))), whole[order], "reversed rows")
    alone = [values(model.score(table.slice(i, 1)))[0] for i in range(min(len(table), 5))]
    _same(np.array(alone), whole[: len(alone)], "one alert at a time")
    half = len(table) // 2
    chunked = pa.concat_tables([table.slice(0, half), table.slice(half)])
    _same(values(model.score(chunked)), whole, "a table of two chunks")


def survives_absurd_values(model: Model, table: pa.Table) -> None:
    """NaN, infinities, nulls and huge numbers in what it reads give finite probabilities or a null row."""
    rows = len(table)
    for bad in (np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300, None):
        changed = table
        for name in ("flux", "flux_err", "mjd", "ra", "dec"):
            if name in model.inputs:
                changed = _with(changed, name, pa.array([bad] * rows, pa.float64()))
        _finite_or_null(model.score(changed))
    if "band" in model.inputs:
        for band in ("?", None):
            _finite_or_null(model.score(_with(table, "band", pa.array([band] * rows, pa.string()))))
    if "cutouts" in model.inputs:
        for pixel in (np.nan, np.inf, 0.0, 3e38, -3.4e38):
            _finite_or_null(model.score(_with(table, "cutouts", tensor(np.full((rows, *CUTOUTS), pixel)))))
    if "history" in model.inputs:
        odd = {"mjd": np.nan, "band": None, "flux": np.inf, "flux_err": 0.0, "kind": "detection"}
        late = {"mjd": 1e300, "band": "q", "flux": 1e300, "flux_err": 1e-300, "kind": "other"}
        points = pa.array([[odd, late, odd]] * rows, pa.list_(POINT))
        _finite_or_null(model.score(_with(table, "history", points)))


def scores_bare_alerts(model: Model, table: pa.Table) -> None:
    """An empty history and a source without the columns it knows (another survey's) are not errors."""
    rows = len(table)
    bare = _with(table, "history", pa.array([[]] * rows, pa.list_(POINT)))
    bare = _with(bare, "source", pa.array([{"psfFlux": 1.0}] * rows))
    _finite_or_null(model.score(bare))
    needed = {path.partition(".")[0] for path in model.inputs}
    _same(
        values(model.score(table.select(sorted(needed)))),
        values(model.score(table)),
        "only the declared inputs",
    )


def every_input_matters(model: Model, table: pa.Table) -> None:
    """Each declared input is able to move the score: one that is not should not be asked for."""
    idle = list(model.inputs)
    for scale in (1.0, 20.0, 0.1):
        if idle:
            filled = _filled(model, table, scale)
            idle = [path for path in idle if not _moves(model, filled, path)]
    assert not idle, f"declared, but moves no score: {', '.join(idle)}"


def speed(model: Model, table: pa.Table, seconds: float = 2.0) -> float:
    """Alerts a second that `score` takes, in blocks of `table`, the first one apart."""
    model.score(table)
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        model.score(table)
        done += len(table)
    return done / (time.perf_counter() - begin)


PROMISES: tuple[Callable[[Model, pa.Table], None], ...] = (
    answers_in_shape,
    ignores_neighbours,
    survives_absurd_values,
    scores_bare_alerts,
    every_input_matters,
)


def _moves(model: Model, table: pa.Table, path: str) -> bool:
    """Whether other values in one column, of several kinds, change any score, or whether there is one."""
    plain = values(model.score(table))
    for other in _others(table, path):
        changed = values(model.score(other))
        if not np.array_equal(plain, changed, equal_nan=True):
            return True
    return False


def _filled(model: Model, table: pa.Table, scale: float) -> pa.Table:
    """The alerts with a number in each declared source column they lack: one may matter beside another."""
    draw = np.random.default_rng(2)
    source = table["source"].combine_chunks()
    fields = {f.name: source.field(f.name) for f in source.type}
    for path in model.inputs:
        name, _, child = path.partition(".")
        if name == "source" and (child not in fields or fields[child].null_count == len(table)):
            fields[child] = pa.array(scale * draw.uniform(0.5, 1.0, len(table)))
    return _with(table, "source", pa.StructArray.from_arrays(list(fields.values()), list(fields)))


def _others(table: pa.Table, path: str) -> Iterator[pa.Table]:
    """The alerts with other values in the column at `path`."""
    rows, draw = len(table), np.random.default_rng(1)
    name, _, child = path.partition(".")
    turned = np.roll(np.arange(rows), 1)
    if name == "cutouts":
        yield _with(table, name, tensor(draw.normal(100, 20, (rows, *CUTOUTS))))
    elif name == "cutout_shape":
        yield _with(table, name, pa.array([[40, 63]] * rows, pa.list_(pa.int32(), 2)))
    elif name == "history":
        yield _with(table, name, table[name].take(pa.array(turned)))
    elif name == "band":
        yield from (_with(table, name, pa.array([band] * rows, pa.string())) for band in "gri")
    elif child:
        source = table[name].combine_chunks()
        fields = {f.name: source.field(f.name) for f in source.type}
        for scale in (0.1, 1.0, 20.0, 1e4):
            fields[child] = pa.array(draw.normal(0, scale, rows))
            yield _with(table, name, pa.StructArray.from_arrays(list(fields.values()), list(fields)))
    else:
        column = table[name].to_numpy()
        for scale in (1e-3, 1.0, 1e3):
            yield _with(table, name, pa.array(column * (1 + scale * np.abs(draw.normal(size=rows)))))


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def _finite_or_null(found: pa.Table) -> None:
    numbers = values(found)
    nulls = np.array([c.is_null().to_numpy() for c in found.columns]).T
    assert (nulls.all(axis=1) | ~nulls.any(axis=1)).all(), "a row is null in some classes only"
    known = numbers[~nulls.any(axis=1)]
    assert np.isfinite(known).all(), "a probability is not finite"
    assert ((known >= 0) & (known <= 1)).all(), "a probability is outside 0 to 1"
    assert np.allclose(known.sum(axis=1), 1, atol=1e-3), "the probabilities of an alert do not sum to one"


def _same(found: np.ndarray, wanted: np.ndarray, when: str) -> None:
    assert (np.isnan(found) == np.isnan(wanted)).all(), f"other rows are null with {when}"
    gap = np.nanmax(np.abs(found - wanted), initial=0)
    assert gap <= STEADINESS, f"scores differ by {gap:.2g} with {when}"
