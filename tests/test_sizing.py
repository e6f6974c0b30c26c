"""The arithmetic of docs/deployment.md: its examples follow from its measured figures, and are right."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
UNITS = {
    "µs": 1e-6, "s": 1.0, "h": 3600.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "MB/s": 1e6, "GB": 1e9, "TB": 1e12, "GiB": 1.0
}  # fmt: skip
_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(µs|MB/s|GiB|KB|MB|GB|TB|[shB](?!\w))?")
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, comments left out."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    section = re.sub(r"<!--.*?-->", "", section)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def value(node: ast.AST) -> float:
    if isinstance(node, ast.Expression):
        return value(node.body)
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type] # only numbers are written
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](value(node.left), value(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "max":
        return max(value(argument) for argument in node.args)
    raise ValueError(ast.dump(node))


def number(found: re.Match[str]) -> float:
    return float(found[1].replace(",", "")) * UNITS[found[2] or "s"]


def calculated(text: str) -> float:
    """The value of an arithmetic with units, in bytes and seconds; SyntaxError if it is prose."""
    plain = _NUMBER.sub(lambda found: repr(number(found)), text.replace(", ", " , ").replace(" cores", ""))
    return value(ast.parse(plain, mode="eval"))


def worked() -> Iterator[tuple[str, str, str]]:
    """(what, arithmetic, result) of the rows that hold nothing but arithmetic."""
    for what, arithmetic, result in rows("An example"):
        try:
            calculated(arithmetic)
        except (SyntaxError, ValueError):
            continue
        yield what, arithmetic, result


def test_most_rows_are_arithmetic() -> None:
    assert len(list(worked())) >= 11


@pytest.mark.parametrize(("what", "arithmetic", "result"), list(worked()))
def test_an_example_is_calculated_right(what: str, arithmetic: str, result: str) -> None:
    shown = _NUMBER.search(result)
    assert shown is not None, what
    told, true = number(shown), calculated(arithmetic)
    assert math.isclose(told, true, rel_tol=0.04), f"{what}: {arithmetic} is {true:,.6g}, not {told:,.6g}"


def test_examples_use_the_figures_of_the_table() -> None:
    figures = {cells[0].strip("`"): cells[2] for cells in rows("What one core does")[2:]}
    examples = {what: arithmetic for what, arithmetic, _ in worked()}
    assert figures["K"] in examples["embedded engine and broker"]
    assert figures["S"] in examples["Spark executors"]
    assert all(f"* {figures['u']})" in examples[name] for name in ("embedded engine and broker", "Spark executors"))
    assert f"{figures['W']} B" in examples["store"]
    assert re.search(r"(\d+) \(assume\)", figures["L"])[1] in examples["lake"]  # type: ignore[index] # it is there


def test_every_formula_is_made_of_known_signs() -> None:
    known = {cells[0].strip("`") for cells in rows("What one core does")[2:]} | {"R", "d"}
    for what, formula in rows("From machines to cores")[2:]:
        for code in re.findall(r"`([^`]+)`", formula):
            signs = set(re.findall(r"\b[A-Za-z]\b", code.replace("MB/s", "")))
            assert signs <= known, f"{what}: {signs - known}"
