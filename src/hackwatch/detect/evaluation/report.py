"""An evaluation as one HTML file: no script, no request to anywhere, every text escaped."""

from __future__ import annotations

import math
from html import escape

from hackwatch.detect.evaluation import Evaluation, TypeResult
from hackwatch.detect.evaluation.plots import bars, lines

__all__ = ["html"]

_STYLE = """
:root{--ink:#1c2430;--soft:#5b6878;--paper:#f5f7fa;--card:#fff;--edge:#dfe5ec;--main:#0b6bcb;--warm:#c2410c;
--track:#e8edf3}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa7b8;--paper:#10151c;--card:#18202b;--edge:#2a3544;
--main:#5aa9f8;--warm:#fb923c;--track:#243040}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:36px 20px 60px}
h1{font-size:26px;margin:0}h2{font-size:16px;margin:0 0 10px}p{margin:4px 0 0;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:24px 0}
.figure,section{background:var(--card);border:1px solid var(--edge);border-radius:10px}
.figure{padding:12px 14px}.figure b{display:block;font-size:23px;font-variant-numeric:tabular-nums}
.figure span{color:var(--soft);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:16px}
section{padding:16px 18px;overflow-x:auto}.wide{margin-top:16px}
svg{width:100%;height:auto;display:block}
.grid{stroke:var(--edge);stroke-width:1}.tick{fill:var(--soft);font:11px system-ui,sans-serif}
.axis,.label,.note{fill:var(--ink);font:12px system-ui,sans-serif}.note{fill:var(--warm)}
.line{fill:none;stroke:var(--main);stroke-width:2.2}.even{fill:none;stroke:var(--soft);stroke-dasharray:4 4}
.dot{fill:var(--main)}.mark{fill:none;stroke:var(--warm);stroke-width:2.5}.bar{fill:var(--main)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-top:1px solid var(--edge)}thead th{border:0;color:var(--soft)}
th:first-child,td:first-child{text-align:left}th{font-weight:600}
.track{background:var(--track);border-radius:3px;height:9px;min-width:120px}
.track i{display:block;height:9px;border-radius:3px;background:var(--main)}.alarm i{background:var(--warm)}
"""


def html(found: Evaluation) -> str:
    """The report as a whole page."""
    operating = (found.false_alarm_rate, found.recall)
    roc = lines(
        "ROC curve",
        "false positive rate",
        "recall",
        [("chance", "even", [(0, 0), (1, 1)], False), ("ROC", "line", found.roc, False)],
        mark=operating,
    )
    precision = 0.0 if math.isnan(found.precision) else found.precision
    precision_recall = lines(
        "Precision and recall",
        "recall",
        "precision",
        [("precision", "line", found.precision_recall, False)],
        mark=(found.recall, precision),
    )
    points = [(entry.score, entry.attacks) for entry in found.calibration]
    calibration = lines(
        "Calibration",
        "mean score",
        "share of attacks",
        [("calibrated", "even", [(0, 0), (1, 1)], False), ("found", "line", points, True)],
    )
    importance = bars("Feature importance", list(found.importance.items())[:11])
    title = f"{found.stream}: {found.version}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{_summary(found)}</p>{_figures(found)}"
        f'<div class="plots">{_card("ROC curve", roc)}{_card("Precision and recall", precision_recall)}'
        f"{_card('Calibration', calibration)}{_card('Feature importance', importance)}</div>"
        f"{_types(found)}{_confusion(found)}</main></body></html>\n"
    )


def _summary(found: Evaluation) -> str:
    return (
        f"{escape(found.method)} detector on {found.rows:,} labelled records, {found.attacks:,} of them attacks. "
        f"Threshold {found.threshold:.3f}, trained to alarm on {found.alert_budget:.2%} of normal records; "
        f"it alarmed on {found.false_alarm_rate:.2%} of them here."
    )


def _figures(found: Evaluation) -> str:
    figures = [
        (_number(found.roc_auc, ".4f"), "ROC-AUC"),
        (_number(found.pr_auc, ".4f"), "PR-AUC"),
        (_number(found.f1, ".3f"), "F1 at the threshold"),
        (_number(found.precision, ".1%"), "precision"),
        (_number(found.recall, ".1%"), "recall"),
        (_number(found.recall_at_1_percent, ".1%"), "recall at 1 % FPR"),
        (_number(found.recall_at_01_percent, ".1%"), "recall at 0.1 % FPR"),
        (_number(found.false_alarms_per_host_day, ",.1f"), "false alarms per host and day"),
        (_number(found.false_programs_per_host_day, ",.1f"), "programs in them per host and day"),
    ]
    cards = "".join(f'<div class="figure"><b>{value}</b><span>{name}</span></div>' for value, name in figures)
    return f'<div class="figures">{cards}</div>'


def _number(value: float, form: str) -> str:
    return "not known" if math.isnan(value) else format(value, form)


def _card(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _types(found: Evaluation) -> str:
    rows = "".join(_type_row(entry) for entry in sorted(found.types, key=lambda entry: (entry.attack, -entry.share)))
    return (
        '<section class="wide"><h2>Suspects by type</h2><table><thead>'
        f"<tr><th>type</th><th>records</th><th>suspects</th><th>share</th><th></th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _type_row(entry: TypeResult) -> str:
    return (
        f"<tr><td>{escape(entry.type)}</td><td>{entry.rows:,}</td><td>{entry.suspects:,}</td><td>{entry.share:.2%}</td>"
        f'<td><div class="track{"" if entry.attack else " alarm"}"><i style="width:{entry.share * 100:.1f}%"></i>'
        "</div></td></tr>"
    )


def _confusion(found: Evaluation) -> str:
    watched = f"{found.hosts:,} hosts, {found.host_days:.2f} host days" if found.host_days else "no time span"
    return (
        '<section class="wide"><h2>Confusion</h2><table><thead><tr><th></th><th>suspect</th><th>not suspect</th></tr>'
        f"</thead><tbody><tr><th>attack</th><td>{found.true_positives:,}</td><td>{found.false_negatives:,}</td></tr>"
        f"<tr><th>normal</th><td>{found.false_positives:,}</td><td>{found.true_negatives:,}</td></tr></tbody></table>"
        f"<p>{watched}</p></section>"
    )
