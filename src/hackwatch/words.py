"""Words that settings, rules, alerts and commands share: this is the one place that lists them."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["SEVERITIES", "Form", "Severity"]

#: How bad something is.
Severity = Literal["informational", "low", "medium", "high", "critical"]
#: From the least to the worst.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: How an alert is written for others: hackwatch's own form, OCSF, Elastic Common Schema.
Form = Literal["native", "ocsf", "ecs"]
