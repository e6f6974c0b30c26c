"""Rules: SQL conditions over the normalised columns that stand beside the models.

A rule file is TOML: `[[rule]]` tables, and `[[override]]` tables that change or disable a rule of an earlier file.
Families ship rules of their own. Every rule carries sample records that must and must not fire,
and is not loaded unless they do.
"""

from __future__ import annotations

from hackwatch.detect.rules.load import load_rules
from hackwatch.detect.rules.matching import with_rules
from hackwatch.detect.rules.ruleset import Rule, RuleSet
from hackwatch.detect.rules.tactics import TACTICS

__all__ = ["TACTICS", "Rule", "RuleSet", "load_rules", "with_rules"]
