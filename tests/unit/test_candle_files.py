"""Candle files: every format gives the same candles, and every bad file one clear line."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from twinleg.adapters.local.candle_files import packaged_candles, parse_instant, read_candles
from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput

T0 = 1_700_000_040_000
HEADER = "ts_ms,open,high,low,close,volume"
ROWS = [f"{T0 + 60_000 * i},100.5{i},102,99.{i}0,101,{i}.25" for i in range(5)]
GOOD = "\n".join([HEADER, *ROWS]) + "\n"


def csv_file(folder: Path, text: str, name: str = "candles.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def with_row(index: int, row: str) -> str:
    return "\n".join([HEADER, *ROWS[:index], row, *ROWS[index + 1 :]])


def with_times(*times: str, name: str = "time") -> str:
    return "\n".join([f"{name},open,high,low,close,volume", *(f"{at},100,102,99,101,1" for at in times)])


def arrow_bytes(kind: str, **changes: object) -> bytes:
    columns: dict[str, object] = {
        "date": pyarrow.array([T0 + 60_000 * i for i in range(5)], pyarrow.timestamp("ms", tz="UTC")),
        "open": [100.1, 100.2, 100.3, 100.4, 100.5],
        "high": [102.0] * 5,
        "low": [99.25] * 5,
        "close": [101.0] * 5,
        "volume": [1.5] * 5,
    } | changes
    table = pyarrow.table({name: values for name, values in columns.items() if values is not None})
    sink = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, sink)
    else:
        feather.write_feather(table, sink)
    return sink.getvalue()


def snapshot(index: int, **changes: object) -> dict[str, object]:
    at = T0 + 60_000 * index
    row = {"t": at, "T": at + 59_999, "s": "ETH", "i": "1m", "o": "3000.10", "h": "3001", "l": "2999.5", "c": "3000"}
    return {**row, "v": "12.5", "n": 7, **changes}


def test_prices_are_exactly_as_written_and_the_interval_is_inferred(tmp_path: Path) -> None:
    candles = read_candles(csv_file(tmp_path, GOOD))
    assert candles[3] == Candle(
        datetime(2023, 11, 14, 22, 17, tzinfo=UTC), Decimal("100.53"), Decimal(102), Decimal("99.30"), Decimal(101),
        Decimal("3.25"), timedelta(minutes=1),
    )  # fmt: skip
    assert str(candles[3].low) == "99.30"


@pytest.mark.parametrize(
    "write",
    [
        lambda at: str(at),
        lambda at: str(at // 1000),
        lambda at: f"{at // 1000}.0",
        lambda at: str(at * 1000),
        lambda at: str(at * 1_000_000),
        lambda at: datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        lambda at: datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda at: (datetime.fromtimestamp(at / 1000, UTC) + timedelta(hours=9)).strftime("%Y-%m-%dT%H:%M+09:00"),
    ],
    ids=["ms", "s", "float s", "us", "ns", "iso space", "iso z", "iso offset"],
)
@pytest.mark.parametrize("name", ["time", "date", "timestamp", "open_time", "Unix"])
def test_times_are_understood_in_every_unit(tmp_path: Path, name: str, write: Callable[[int], str]) -> None:
    text = with_times(*(write(T0 + 60_000 * i) for i in range(3)), name=name)
    candles = read_candles(csv_file(tmp_path, text))
    assert [c.opened_at for c in candles] == [datetime(2023, 11, 14, 22, 14 + i, tzinfo=UTC) for i in range(3)]


def test_every_format_gives_the_same_candles(tmp_path: Path) -> None:
    plain = read_candles(csv_file(tmp_path, GOOD))
    assert read_candles(csv_file(tmp_path, GOOD, "candles.csv.gz")) == plain
    assert read_candles(csv_file(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n\r\n"), "bom.csv")) == plain
    assert read_candles(csv_file(tmp_path, "\n".join([HEADER, *reversed(ROWS)]), "newest_first.csv")) == plain
    assert read_candles(csv_file(tmp_path, "\n".join([HEADER, *ROWS[:2], *ROWS[1:]]), "twice.csv")) == plain
    vision = "\n".join(f"{row},{T0 + 59_999},1,2,3,4,0" for row in ROWS)
    assert read_candles(csv_file(tmp_path, vision, "vision.csv")) == plain


@pytest.mark.parametrize("kind", ["parquet", "feather"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_and_feather_keep_the_shortest_decimal_of_a_float(tmp_path: Path, kind: str, unit: str) -> None:
    dates = pyarrow.array([T0 + 60_000 * i for i in range(5)], pyarrow.timestamp("ms", tz="UTC"))
    path = tmp_path / f"ETH_USDT-1m.{kind}"
    path.write_bytes(arrow_bytes(kind, date=dates.cast(pyarrow.timestamp(unit, tz="UTC"))))
    candles = read_candles(path)
    assert [str(c.open) for c in candles] == ["100.1", "100.2", "100.3", "100.4", "100.5"]
    assert candles[0].opened_at == datetime(2023, 11, 14, 22, 14, tzinfo=UTC)
    assert candles[0].interval == timedelta(minutes=1)


def test_a_hyperliquid_candle_snapshot_is_read(tmp_path: Path) -> None:
    path = tmp_path / "eth.json"
    path.write_text(json.dumps([snapshot(i) for i in range(3)]))
    candles = read_candles(path)
    assert [str(c.open) for c in candles] == ["3000.10"] * 3
    assert candles[0].volume == Decimal("12.5")


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    candles = read_candles(csv_file(tmp_path, "\n".join([HEADER, *ROWS[:2], *ROWS[3:]])))
    assert [c.opened_at.minute for c in candles] == [14, 15, 17, 18]
    assert {c.interval for c in candles} == {timedelta(minutes=1)}


def test_volume_may_be_absent_and_is_then_zero(tmp_path: Path) -> None:
    text = "\n".join(line.rsplit(",", 1)[0] for line in GOOD.splitlines())
    assert {c.volume for c in read_candles(csv_file(tmp_path, text))} == {Decimal(0)}


def test_start_is_included_and_end_is_not(tmp_path: Path) -> None:
    path = csv_file(tmp_path, GOOD)
    start, end = parse_instant("2023-11-14T22:15"), parse_instant("2023-11-14T22:17")
    assert [c.opened_at.minute for c in read_candles(path, start=start, end=end)] == [15, 16]
    with pytest.raises(BadInput, match=r"no candle in the time asked for; the file covers 2023-11-14T22:14 to"):
        read_candles(path, start=parse_instant("2024-01-01"))
    with pytest.raises(BadInput, match="from must be before to"):
        read_candles(path, start=end, end=start)


def test_the_packaged_bars_are_half_a_day_of_minutes() -> None:
    candles = packaged_candles()
    assert len(candles) == 721
    assert sum(c.volume > 0 for c in candles) == 505
    assert candles[0].opened_at == datetime(2025, 11, 10, 12, 17, tzinfo=UTC)
    assert candles[-1].opened_at == datetime(2025, 11, 11, 0, 17, tzinfo=UTC)
    assert all(c.checked() is c for c in candles)


def test_a_month_of_minutes_is_read_whole(tmp_path: Path) -> None:
    lines = (
        f"{T0 + 60_000 * i},{3000 + i % 97}.1,3200.55,2900.25,{3001 + i % 89}.7,{i % 1000}.123" for i in range(44_640)
    )
    path = csv_file(tmp_path, "\n".join([HEADER, *lines]))
    assert len(read_candles(path)) == 44_640


BAD_FILES: dict[str, tuple[str, bytes | str, str]] = {
    # what is wrong: (file name, content, what the line says)
    "empty": ("a.csv", "", "is empty"),
    "blank": ("a.csv", "\n \n", "is empty"),
    "unknown ending": ("a.xlsx", GOOD, "must end in .csv"),
    "no ending": ("candles", GOOD, "must end in .csv"),
    "header only": ("a.csv", HEADER, "at least 2 candles, was 0"),
    "one row": ("a.csv", f"{HEADER}\n{ROWS[0]}", "at least 2 candles, was 1"),
    "one time": ("a.csv", f"{HEADER}\n{ROWS[0]}\n{ROWS[0]}", "at least 2 different times"),
    "no close column": ("a.csv", GOOD.replace("close", "final"), "has no column close"),
    "no time column": ("a.csv", GOOD.replace("ts_ms", "when"), "has no column time"),
    "column twice": ("a.csv", GOOD.replace("close", "open"), "column 'open' appears twice"),
    "volume in two currencies": ("a.csv", GOOD.replace("volume", "Volume USD"), "was 'volume usd'"),
    "semicolons": ("a.csv", GOOD.replace(",", ";"), "separated by ',', was ';'"),
    "tabs": ("a.csv", GOOD.replace(",", "\t"), "separated by ','"),
    "no header": ("a.csv", "\n".join(ROWS), "has no header line"),
    "field missing": ("a.csv", with_row(2, f"{T0 + 120_000},1,2,3,4"), "line 4: 5 fields, must be 6"),
    "field too many": ("a.csv", with_row(2, ROWS[2] + ",9"), "line 4: 7 fields, must be 6"),
    "high below low": ("a.csv", with_row(1, f"{T0 + 60_000},100,98,99,98.5,1"), "line 3: high 98 is below low 99"),
    "open above high": ("a.csv", with_row(1, f"{T0 + 60_000},103,102,99,101,1"), "must enclose open 103"),
    "close below low": ("a.csv", with_row(1, f"{T0 + 60_000},100,102,99,98,1"), "and close 98"),
    "negative price": ("a.csv", with_row(1, f"{T0 + 60_000},100,102,-99,101,1"), "low must be above 0, was '-99'"),
    "zero price": ("a.csv", with_row(1, f"{T0 + 60_000},0,0,0,0,1"), "open must be above 0, was '0'"),
    "huge price": ("a.csv", with_row(1, f"{T0 + 60_000},100,1e13,99,101,1"), "high must be in"),
    "nan": ("a.csv", with_row(3, f"{T0 + 180_000},100,102,99,NaN,1"), "line 5: close must be finite, was 'NaN'"),
    "infinity": ("a.csv", with_row(3, f"{T0 + 180_000},100,inf,99,101,1"), "high must be finite, was 'inf'"),
    "text for a price": ("a.csv", with_row(3, f"{T0 + 180_000},cheap,102,99,101,1"), "open must be a number"),
    "no price": ("a.csv", with_row(3, f"{T0 + 180_000},100,102,99,,1"), "close must be a number, was ''"),
    "underscores": ("a.csv", with_row(3, f"{T0 + 180_000},100,1_02,99,101,1"), "high must be a number, was '1_02'"),
    "thousands": ("a.csv", with_row(3, f'{T0 + 180_000},100,"1,020",99,101,1'), "high must be a number, was '1,020'"),
    "negative volume": ("a.csv", with_row(4, f"{T0 + 240_000},100,102,99,101,-1"), "line 6: volume must be in 0 to"),
    "infinite volume": ("a.csv", with_row(4, f"{T0 + 240_000},100,102,99,101,Infinity"), "volume must be finite"),
    "going back in time": ("a.csv", "\n".join([HEADER, ROWS[0], ROWS[2], ROWS[1], ROWS[3]]), "line 4: time"),
    "conflicting rows": ("a.csv", with_row(2, f"{T0 + 60_000},100,102,99,101,7"), "line 4: has the time of line 3"),
    "conflicting rows, newest first": (
        "a.csv", "\n".join([HEADER, ROWS[2], ROWS[1], f"{T0 + 60_000},1,1,1,1,1", ROWS[0]]), "has the time of line 3",
    ),
    "two units": ("a.csv", with_row(2, f"{T0 // 1000 + 120},100,102,99,101,1"), "is in s where the first row is in ms"),
    "ts_ms in seconds": ("a.csv", GOOD.replace("0000,", "0,"), "ts_ms must be in milliseconds"),
    "time as text": ("a.csv", with_times("2023-11-14 22:13", "yesterday"), "line 3: time must be a time"),
    "no time": ("a.csv", with_times("2023-11-14 22:13", ""), "line 3: time must be a time"),
    "thirteenth month": ("a.csv", with_times("2023-13-14", "2023-13-15"), "must be a time"),
    "year 9999": ("a.csv", with_times("9999-01-01T00:00", "9999-01-01T00:01"), "must be in 1990-2099"),
    "year 1970": ("a.csv", with_times("60", "120", "180"), "time must be in 1990-2099, was '60'"),
    "negative time": ("a.csv", with_times("-60000", "0", "60000"), "must be in 1990-2099"),
    "time of 5,000 digits": ("a.csv", with_times("9" * 5000, "9" * 5001), "must be in 1990-2099"),
    "off the grid": (
        "a.csv", with_times(*(str(T0 // 1000 + s) for s in (0, 60, 120, 210, 270))), "90 s from the row before",
    ),
    "microsecond bars": ("a.csv", with_times(*(str(T0 * 1000 + i) for i in range(3))), "interval must be 1 s to 7 d"),
    "yearly bars": ("a.csv", with_times("2020-01-01", "2021-01-01"), "interval must be 1 s to 7 d"),
    "binary": ("a.csv", bytes(range(256)) * 20, "is not UTF-8 text"),
    "zero bytes": ("a.csv", GOOD.replace("100", "1\x000"), "is not text"),
    "utf-16": ("a.csv", GOOD.encode("utf-16"), "is not UTF-8 text"),
    "one endless field": ("a.csv", "x" * 200_000 + "\n1", "is not CSV"),
    "gzip without the name": ("a.csv", gzip.compress(GOOD.encode()), "must end in .gz"),
    "the name without gzip": ("a.csv.gz", GOOD, "is not a whole gzip file"),
    "gzip cut short": ("a.csv.gz", gzip.compress(GOOD.encode())[:-20], "is not a whole gzip file"),
    "gzip with a flipped bit": (
        "a.csv.gz", (lambda b: b[:30] + bytes([b[30] ^ 0xFF]) + b[31:])(gzip.compress(GOOD.encode())), "gzip",
    ),
    "parquet that is text": ("a.parquet", GOOD, "is not a whole Parquet file"),
    "parquet cut short": ("a.parquet", arrow_bytes("parquet")[:-30], "is not a whole Parquet file"),
    "parquet, empty": ("a.parquet", "", "is empty"),
    "parquet without low": ("a.parquet", arrow_bytes("parquet", low=None), "has no column low"),
    "parquet with a hole": ("a.parquet", arrow_bytes("parquet", low=[99.0, None, 99, 99, 99]), "row 2: low must be"),
    "parquet with a nan": ("a.parquet", arrow_bytes("parquet", low=[99.0, 99, float("nan"), 99, 99]), "row 3: low"),
    "parquet with lists": ("a.parquet", arrow_bytes("parquet", low=[[1.0]] * 5), "low must be a number, was [1.0]"),
    "feather that is garbage": ("a.feather", b"\x89PNG" * 99, "is not a whole Feather file"),
    "feather cut short": ("a.feather", arrow_bytes("feather")[:-200], "is not a whole Feather file"),
    "json cut short": ("a.json", json.dumps([snapshot(0), snapshot(1)])[:-5], "line 1: is not JSON"),
    "json object": ("a.json", json.dumps({"candles": []}), "must be a JSON list"),
    "json list of lists": ("a.json", json.dumps([[T0, 1, 2, 3, 4]]), "must be a JSON list"),
    "json number": ("a.json", "42", "must be a JSON list"),
    "json without rows": ("a.json", "[]", "has no column time"),
    "json with a nan": ("a.json", json.dumps([snapshot(0), snapshot(1, v=float("nan"))]), "must be finite, was NaN"),
    "json field missing": ("a.json", json.dumps([snapshot(0), {"t": T0}]), "row 2: field 'T' is missing"),
    "json of two coins": ("a.json", json.dumps([snapshot(0), snapshot(1, s="BTC")]), "row 2: s must be the same"),
    "json of two intervals": ("a.json", json.dumps([snapshot(0), snapshot(1, i="5m")]), "row 2: i must be the same"),
    "json null price": ("a.json", json.dumps([snapshot(0), snapshot(1, o=None)]), "o must be a number, was None"),
    "json true price": ("a.json", json.dumps([snapshot(0), snapshot(1, o=True)]), "o must be a number, was True"),
    "json true time": ("a.json", json.dumps([snapshot(0), snapshot(1, t=True)]), "row 2: t must be a time"),
    "json nested deep": ("a.json", "[" * 100_000, "is not JSON"),
    "json number of 9,999 digits": ("a.json", f"[{'9' * 9999}]", "is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_gives_one_clear_line(tmp_path: Path, name: str, content: bytes | str, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    line = refusal_of(path)
    assert line.startswith(f"{path}: ")
    assert says in line


def test_a_path_that_is_no_file_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "is a directory" in refusal_of(tmp_path / "folder.csv")
    assert "no such file" in refusal_of(tmp_path / "absent.csv")
    assert "cannot be read" in refusal_of(tmp_path / ("long" * 100 + ".csv"))
    assert "cannot be read" in refusal_of(Path("zero\0byte.csv"))
    assert "no such file" in refusal_of(tmp_path / "two\nlines.csv")


def refusal_of(path: Path) -> str:
    with pytest.raises(BadInput) as refusal:
        read_candles(path)
    line = str(refusal.value)
    assert "\n" not in line
    assert len(line) < 400 + len(str(path))
    return line


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".csv", ".csv.gz", ".json", ".parquet", ".feather"]))
def test_no_bytes_raise_anything_but_bad_input(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise{end}"
    path.write_bytes(noise)
    refusal_of(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_one_changed_character_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, character: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.csv"
    path.write_text(GOOD[:at] + character + GOOD[at + 1 :], encoding="utf-8", errors="surrogatepass")
    try:
        candles = read_candles(path)
    except BadInput as refusal:
        assert "\n" not in str(refusal)
    else:
        assert all(c.checked() is c for c in candles)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2021-05-19T10:00", datetime(2021, 5, 19, 10, tzinfo=UTC)),
        ("2021-05-19", datetime(2021, 5, 19, tzinfo=UTC)),
        (" 2021-05-19T10:00:30Z ", datetime(2021, 5, 19, 10, 0, 30, tzinfo=UTC)),
        ("2021-05-19T10:00+02:00", datetime(2021, 5, 19, 8, tzinfo=UTC)),
        ("1621418400", datetime(2021, 5, 19, 10, tzinfo=UTC)),
        ("1621418400000", datetime(2021, 5, 19, 10, tzinfo=UTC)),
    ],
)
def test_an_instant_is_utc(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "noon", "2021-05-32", "0", "9999-01-01", "1e999999", "nan", "2021-05-19T25:00", "\n"]
)
def test_a_bad_instant_gives_one_clear_line(text: str) -> None:
    with pytest.raises(BadInput, match=r"^time must (look like 2021-05-19T10:00 \(UTC\)|be in 1990-2099), was '.*'$"):
        parse_instant(text)
