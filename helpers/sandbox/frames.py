"""pandas values as parts that cross between judge and candidate, and back; built by public constructors.

No pickle is read: a pickle runs whatever its author wrote into it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy

SCALARS = ("Timestamp", "Timedelta", "Period", "Interval")
INDEXES = ("Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex",
           "CategoricalIndex", "IntervalIndex")  # fmt: skip
CHANGEABLE = ("DataFrame", "Series")
WITH_FREQUENCY = ("DatetimeIndex", "TimedeltaIndex")


def frame_parts(value: Any) -> tuple[str, tuple] | None:
    """Return the name of a pandas value's class and its parts; None for other classes."""
    pandas = sys.modules["pandas"]
    name = type(value).__name__
    if value is pandas.NaT or value is pandas.NA:
        return ("NaT" if value is pandas.NaT else "NA"), ()
    if type(value) is not getattr(pandas, name, None):
        return _dtype_parts(value)
    if name == "DataFrame":
        columns = tuple(_array_parts(value.iloc[:, at].array) for at in range(value.shape[1]))
        return name, (value.columns, value.index, columns, tuple(value.attrs.items()))
    if name == "Series":
        return name, (value.index, value.name, _array_parts(value.array), tuple(value.attrs.items()))
    if name == "Categorical":
        return name, _array_parts(value)
    if name in INDEXES:
        return name, _index_parts(value, name)
    return (name, _scalar_parts(value, name)) if name in SCALARS else None


def frame_from(name: str, parts: list) -> Any:
    """Return the pandas value of the class `name` with these parts."""
    import pandas

    if name in ("NaT", "NA"):
        return getattr(pandas, name)
    if name == "dtype":
        return _array(parts).dtype
    if name == "DataFrame":
        columns, index, held, attrs = parts
        series = {at: _series(_array(each), index) for at, each in enumerate(held)}
        frame = pandas.DataFrame(series, index=index)
        frame.columns = columns
        frame.attrs = dict(attrs)
        return frame
    if name == "Series":
        index, own_name, held, attrs = parts
        series = _series(_array(held), index)
        series.name, series.attrs = own_name, dict(attrs)
        return series
    if name == "Categorical":
        return _array(parts)
    return _build_index(pandas, name, parts) if name in INDEXES else _build_scalar(pandas, name, parts)


def refill_frame(known: Any, new: Any) -> None:
    """Give a frame or series the contents of another, as a change in place does."""
    known._update_inplace(new)
    known.attrs = new.attrs
    if hasattr(new, "name") and type(new).__name__ == "Series":
        known.name = new.name


def _series(array: Any, index: Any) -> Any:
    import pandas

    return pandas.Series(array, index=index, dtype=array.dtype)


def _dtype_parts(value: Any) -> tuple[str, tuple] | None:
    pandas = sys.modules["pandas"]
    if not isinstance(value, pandas.api.extensions.ExtensionDtype):
        return None
    return "dtype", _array_parts(pandas.array([], dtype=value))


def _array_parts(array: Any) -> tuple:
    """Return a tag and the data of one column's or index's array."""
    pandas = sys.modules["pandas"]
    dtype = array.dtype
    if isinstance(array, pandas.Categorical):
        return ("categories", Fixed(array.codes), array.categories, bool(array.ordered))
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return ("zoned", Fixed(array.asi8), dtype.unit, _zone(dtype.tz))
    if isinstance(dtype, pandas.PeriodDtype):
        return ("periods", Fixed(array.asi8), str(dtype).removeprefix("period[").removesuffix("]"))
    if isinstance(dtype, numpy.dtype) and not dtype.hasobject:
        return ("numpy", Fixed(numpy.asarray(array)))
    items = tuple(array.astype(object))
    return ("objects", items, "object" if isinstance(dtype, numpy.dtype) else str(dtype))


def _array(parts: Any) -> Any:
    import pandas

    tag, data, *more = parts
    if tag == "categories":
        return pandas.Categorical.from_codes(_fixed(data), categories=more[0], ordered=more[1])
    if tag == "zoned":
        moments = _fixed(data).view(f"M8[{more[0]}]")
        return pandas.DatetimeIndex(moments).tz_localize("UTC").tz_convert(more[1]).array
    if tag == "periods":
        return pandas.PeriodIndex.from_ordinals(_fixed(data), freq=more[0]).array
    if tag == "numpy":
        return _fixed(data)
    if more[0] != "object":
        return pandas.array(list(data), dtype=more[0])
    array = numpy.empty(len(data), dtype=object)
    array[:] = data
    return array


class Fixed:
    """A numpy array that crosses without a number: nobody changes it in place."""

    def __init__(self, array: Any):
        self.array = array


def _fixed(data: Any) -> Any:
    if not isinstance(data, Fixed):
        raise ValueError("malformed array")
    return data.array


def _index_parts(index: Any, name: str) -> tuple:
    if name == "RangeIndex":
        return (index.name, index.start, index.stop, index.step)
    if name == "MultiIndex":
        codes = tuple(Fixed(numpy.asarray(each, dtype="int64")) for each in index.codes)
        return (tuple(index.names), tuple(index.levels), codes)
    frequency = index.freqstr if name in WITH_FREQUENCY else None
    return (index.name, _array_parts(index.array), frequency)


def _build_index(pandas: Any, name: str, parts: list) -> Any:
    if name == "RangeIndex":
        own_name, start, stop, step = parts
        return pandas.RangeIndex(start, stop, step, name=own_name)
    if name == "MultiIndex":
        names, levels, codes = parts
        return pandas.MultiIndex(levels=levels, codes=[_fixed(each) for each in codes], names=names)
    own_name, held, frequency = parts
    array = _array(held)
    index = pandas.Index(array, dtype=array.dtype, name=own_name)
    if frequency is not None:
        index.freq = frequency
    return index


def _scalar_parts(value: Any, name: str) -> tuple:
    if name == "Timestamp":
        return (value.asm8, _zone(value.tz))
    if name == "Timedelta":
        return (value.asm8,)
    return (value.ordinal, value.freqstr) if name == "Period" else (value.left, value.right, value.closed)


def _build_scalar(pandas: Any, name: str, parts: list) -> Any:
    if name == "Timestamp":
        moment = pandas.Timestamp(parts[0])
        return moment if parts[1] is None else moment.tz_localize("UTC").tz_convert(parts[1])
    if name == "Timedelta":
        return pandas.Timedelta(parts[0])
    if name == "Period":
        return pandas.Period(ordinal=parts[0], freq=parts[1])
    return pandas.Interval(*parts)


def _zone(zone: Any) -> Any:
    """Return a time zone that can cross: one of the standard library, or its name."""
    known = zone is None or type(zone).__module__ in ("datetime", "zoneinfo")
    return zone if known else str(zone)
