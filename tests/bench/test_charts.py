"""Charts: well-formed, the data in the right places, small, and safe against what names contain."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.chart_frame import make_frame
from octavo.bench.charts import Axis, Rule, Series, cdf_chart, line_chart, render_png
from octavo.bench.svg import with_plain_colors
from octavo.errors import ConfigError

SVG = "{http://www.w3.org/2000/svg}"
X, Y = Axis("load, requests/s"), Axis("latency, ms")


def draw(*series, **options):
    return line_chart(series, title="A chart", x=X, y=Y, **options)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def tooltips(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def lines(svg):
    """Return the points of each line, in pixels."""
    root = ElementTree.fromstring(svg)
    paths = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("fill") == "none"]
    return [[tuple(map(float, pair)) for pair in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)] for path in paths]


def markers(root):
    return [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]


def marker_places(svg):
    root = ElementTree.fromstring(svg)
    return [tuple(map(float, re.findall(r"-?[\d.]+", marker.get("transform")))) for marker in markers(root)]


def frame_of(x_values, y_values, **options):
    return make_frame("A chart", X, Y, x_values=x_values, y_values=y_values, **options)


def test_points_are_where_the_scales_put_them():
    xs, ys = [1, 2, 4, 8], [10, 12, 30, 90]
    svg = draw(Series("", xs, ys))
    frame = frame_of(xs, ys)
    expected = [(frame.x(x), frame.y(y)) for x, y in zip(xs, ys, strict=True)]
    assert lines(svg)[0] == [pytest.approx(place, abs=0.06) for place in expected]
    assert marker_places(svg) == [pytest.approx(place, abs=0.01) for place in expected]


def test_a_larger_value_is_higher_and_further_right():
    ((first, second),) = lines(draw(Series("", [0, 1], [0, 1])))
    assert second[0] > first[0]
    assert second[1] < first[1]


def test_ticks_stand_at_their_values():
    svg = draw(Series("", [0, 100], [0, 50]))
    root = ElementTree.fromstring(svg)
    frame = frame_of([0, 100], [0, 50])
    places = {element.text: element for element in root.iter(f"{SVG}text")}
    assert float(places["60"].get("x")) == pytest.approx(frame.x(60), abs=0.01)
    assert float(places["30"].get("y")) == pytest.approx(frame.y(30) + 4, abs=0.01)


def test_title_axes_and_legend_are_written():
    written = texts(draw(Series("before", [1], [1]), Series("after", [1], [2])))
    assert {"A chart", "load, requests/s", "latency, ms", "before", "after"} <= set(written)


def test_a_point_has_its_own_tooltip():
    svg = draw(Series("p50", [1, 2], [3, 4], labels=["1 at a time", "2 at a time"], annotate=True))
    assert {"p50: 1 at a time", "p50: 2 at a time"} <= set(tooltips(svg))
    assert {"1 at a time", "2 at a time"} <= set(texts(svg))


def test_series_differ_in_colour_and_in_shape():
    root = ElementTree.fromstring(draw(*(Series(str(i), [i], [i]) for i in range(6))))
    shapes = [marker.find(f"{SVG}path") for marker in markers(root)]
    assert len({shape.get("fill") for shape in shapes}) == 6
    assert len({shape.get("d") for shape in shapes}) == 6


def test_dashed_lines_have_hollow_markers():
    root = ElementTree.fromstring(draw(Series("measured", [1], [1]), Series("predicted", [1], [2], dashed=True)))
    measured, predicted = (marker.find(f"{SVG}path") for marker in markers(root))
    assert "surface" in measured.get("stroke")
    assert "surface" in predicted.get("fill")
    dashes = [path.get("stroke-dasharray") for path in root.iter(f"{SVG}path") if path.get("fill") == "none"]
    assert dashes == [None, "6 4"]


def test_a_missing_value_interrupts_the_line():
    svg = draw(Series("", [1, 2, 3, 4], [1, np.nan, 3, 4]))
    path = next(p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.get("fill") == "none")
    assert path.get("d").count("M") == 2
    assert len(marker_places(svg)) == 3


def test_steps_hold_their_value():
    svg = draw(Series("replicas", [0, 10, 20], [1, 3, 2], steps=True))
    path = next(p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.get("fill") == "none")
    assert re.fullmatch(r"M[\d.]+ [\d.]+(H[\d.]+V[\d.]+){2}", path.get("d"))


def test_a_rule_is_marked_and_within_reach():
    svg = draw(Series("", [1, 2], [10, 20]), rules=[Rule(50, "objective", on="y"), Rule(1.5, "knee")])
    assert {"objective", "knee"} <= set(texts(svg))
    frame = frame_of([1, 2], [10, 20, 50])
    at = [
        float(line.get("y1")) for line in ElementTree.fromstring(svg).iter(f"{SVG}line") if line.get("stroke-dasharray")
    ]
    assert at[0] == pytest.approx(frame.y(50), abs=0.01)


@pytest.mark.parametrize("series", [[], [Series("", [], [])], [Series("a", [5], [5])], [Series("", [1, 2], [0, 0])]])
def test_little_or_no_data_makes_a_chart_too(series):
    assert "A chart" in texts(draw(*series))


def test_values_that_are_not_positive_are_left_out_of_a_logarithmic_chart():
    svg = line_chart([Series("", [0, 1, 10], [1, 2, 3])], title="t", x=Axis("x", log=True), y=Y)
    assert len(lines(svg)[0]) == 2


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="as many"):
        draw(Series("a", [1, 2], [1]))
    with pytest.raises(ValueError, match="1 labels for 2 points"):
        draw(Series("a", [1, 2], [1, 2], labels=["x"]))


@given(st.text(max_size=30))
def test_any_name_gives_well_formed_xml(name):
    svg = line_chart(
        [Series(name, [1, 2], [1, 2], labels=[name, name])], title=name, x=Axis(name), y=Axis(name), notes=name
    )
    ElementTree.fromstring(svg)


def test_a_hostile_name_stays_text():
    name = '</text><script>alert("1")</script>'
    svg = draw(Series(name, [1], [1]))
    assert "<script" not in svg
    assert name in texts(svg)


def test_a_hundred_thousand_points_make_a_small_file():
    random = np.random.default_rng(0)
    x = np.arange(100_000) / 100
    svg = draw(*(Series(f"replica {i}", x, np.cumsum(random.normal(size=100_000))) for i in range(4)))
    assert len(svg) < 1_000_000
    assert len(cdf_chart({"a": random.random(100_000)}, title="t", x=X)) < 100_000


def test_a_spike_survives_thinning():
    y = np.zeros(100_000)
    y[54_321] = 1.0
    (points,) = lines(draw(Series("", np.arange(100_000), y)))
    top = frame_of([0, 99_999], [0, 1]).y(1)
    assert min(y for _, y in points) == pytest.approx(top, abs=0.06)


@pytest.mark.parametrize("count", [7, 100, 5000])
def test_a_cdf_is_that_of_numpy(count):
    values = np.random.default_rng(1).lognormal(3, 1, count)
    svg = cdf_chart({"": values}, title="t", x=Axis("ms"))
    frame = make_frame("t", Axis("ms"), Axis("", low=0, high=100), x_values=values, y_values=[0, 100], width=720)
    path = next(p.get("d") for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.get("fill") == "none")
    drawn = [tuple(map(float, pair)) for pair in re.findall(r"[MLH]([\d.]+)[ V]([\d.]+)", path)]
    back_x = [frame.x.low + (x - frame.x.start) / frame.plot_width * (frame.x.high - frame.x.low) for x, _ in drawn]
    back_y = [(frame.y.start - y) / (frame.y.start - frame.y.end) for _, y in drawn]
    pixel = (frame.x.high - frame.x.low) / frame.plot_width
    for x, y in list(zip(back_x, back_y, strict=True))[1:]:
        lowest = np.mean(values <= x - 0.2 * pixel)
        highest = np.mean(values <= x + 0.2 * pixel)
        assert lowest - 0.002 <= y <= highest + 0.002


def test_a_cdf_marks_percentiles():
    values = np.random.default_rng(2).exponential(size=500)
    told = tooltips(cdf_chart({"": values}, title="t", x=X))
    assert f"p99: {np.percentile(values, 99):.2f}" in told
    assert f"p50: {np.percentile(values, 50):.3f}" in told


def test_a_cdf_without_values_is_left_out():
    svg = cdf_chart({"none": [], "some": [1.0, 2.0]}, title="t", x=X)
    assert "none" not in texts(svg)
    assert "some" in texts(svg)


def test_charts_follow_dark_mode_and_can_be_made_plain():
    svg = draw(Series("a", [1, 2], [1, 2]))
    assert "prefers-color-scheme:dark" in svg
    assert "var(--octavo-series-0)" in svg
    light, dark = with_plain_colors(svg, "light"), with_plain_colors(svg, "dark")
    for plain in (light, dark):
        ElementTree.fromstring(plain)
        assert "var(" not in plain
        assert "<style" not in plain
    assert light != dark


def has_fonts(tmp_path):
    try:
        render_png(draw(), tmp_path / "probe.png")
    except ConfigError as error:
        assert "font" in str(error)  # noqa: PT017
        return False
    return True


def test_a_png_has_the_size_and_the_background_of_the_chart(tmp_path):
    path = tmp_path / "chart.png"
    if not has_fonts(tmp_path):
        assert not path.exists()  # and has_fonts has seen that it is told what to install
        return
    render_png(draw(Series("a", [1, 2], [1, 2])), path, zoom=2)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (1440, 680)


def test_a_png_without_the_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ConfigError, match=r"octavo\[png\]"):
        render_png(draw(), tmp_path / "chart.png")


def test_a_png_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match="No such file" if has_fonts(tmp_path) else "fonts-dejavu-core"):
        render_png(draw(), tmp_path / "missing" / "chart.png")
