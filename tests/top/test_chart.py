"""The chart as a file: a true picture, a page without foreign parts, hostile names harmless, replaced whole."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.top.chart import STEPS, Chart, chart_writer, html_page
from tests.top.test_draw import EVIL
from tests.top.test_flow import flow, machine

NEEDS_PLOT = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra plot")
HOSTILE = f"{EVIL}<script>alert(1)</script>$\\frac{{1}}{{2}}$"


def test_a_line_shows_the_records_a_second_of_its_machine() -> None:
    chart = Chart.of(flow(entities=(machine("4", every=1, many=20),)))
    [(name, count, values)] = chart.drawn
    assert (name, count, len(values)) == ("4", 1200, STEPS)
    assert set(values) == {10.0}
    assert chart.top == 10.0


@pytest.mark.parametrize(("most", "top"), [(0, 1), (1, 1), (3, 5), (18, 20), (45, 50), (99, 100), (101, 200)])
def test_the_axis_ends_at_a_round_number(most: int, top: float) -> None:
    assert Chart.of(flow(entities=(machine("4", every=1, many=most * 2),))).top == top


def test_machines_beyond_those_that_can_be_told_apart_are_one_line() -> None:
    shown = flow(entities=tuple(machine(f"host-{n:02}", many=n) for n in range(20)))
    chart = Chart.of(shown)
    assert [name for name, _, _ in chart.drawn] == [*(f"host-{n}" for n in range(11, 20)), "11 others"]
    assert sum(count for _, count, _ in chart.drawn) == shown.recent


def test_the_page_is_whole_draws_every_machine_and_asks_for_nothing_from_elsewhere() -> None:
    page = html_page(Chart.of(flow())).decode()
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", page)[0])  # type: ignore[index]  # it is there, or this fails
    lines = svg.findall("{http://www.w3.org/2000/svg}polyline")
    assert [line[0].text for line in lines] == ["4", "5", "web-1"]
    assert all(len(line.attrib["points"].split()) == STEPS for line in lines)
    assert "<td>360</td>" in page
    assert not re.search(r"<script|<img|<link|src=|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)


def test_hostile_names_are_text_on_the_page() -> None:
    page = html_page(Chart.of(flow(entities=(machine(HOSTILE),), topic=HOSTILE))).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page


@NEEDS_PLOT
@pytest.mark.parametrize("name", ["4", HOSTILE, "_hidden", "機械", "$"], ids=["usual", "hostile", "_", "letters", "$"])
def test_a_png_is_a_picture_whatever_the_names(tmp_path: Path, name: str) -> None:
    target = tmp_path / "chart.png"
    chart_writer(target)(flow(entities=(machine(name),)))
    assert target.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("suffix", [".html", pytest.param(".png", marks=NEEDS_PLOT)])
def test_an_empty_topic_has_a_chart_too_and_a_new_one_replaces_it(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"chart{suffix}"
    write = chart_writer(target)
    write(flow(entities=()))
    empty = target.read_bytes()
    write(flow())
    assert target.read_bytes() != empty
    assert list(tmp_path.iterdir()) == [target]


def test_other_kinds_of_file_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"\.png or \.html"):
        chart_writer(Path("chart.pdf"))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot write the chart"):
        chart_writer(tmp_path / "none" / "chart.html")(flow())


def test_without_matplotlib_the_extra_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ResourceError, match="extra `plot`") as caught:
        chart_writer(Path("chart.png"))
    assert "pip install 'hackwatch[plot]'" in str(caught.value)
