"""The programs of a simulated Ubuntu machine, by role, and how each behaves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hackwatch.families.host.simulate.behaviour import KERNEL, Behaviour

__all__ = ["ROLES", "Program", "programs"]

ROLES = ("web", "desk", "db", "desk", "mail")

_DAEMON = Behaviour(run=0.025, cpu=0.35, threads=2.6)
_SHORT = Behaviour(run=0.25, cpu=0.3, threads=1, text=120, virtual=22_000, resident=2_600, faults=420, grow=0.1,
                   growth=150, ends=0.4, at_once=0.75, again=0.45)  # fmt: skip
_HOT = Behaviour(run=0.42, cpu=0.72, threads=36, text=900, virtual=900_000, resident=160_000, faults=260,
                 grow=0.25, growth=900, ends=0.002)  # fmt: skip
_SERVER = Behaviour(run=0.16, cpu=0.5, threads=14, text=700, virtual=380_000, resident=42_000, faults=60,
                    grow=0.08, growth=400, ends=0.002)  # fmt: skip
_WORKER = Behaviour(run=0.2, cpu=0.5, threads=3, text=640, virtual=260_000, resident=12_000, faults=130,
                    grow=0.12, growth=350, ends=0.03, at_once=0.02, again=0.8)  # fmt: skip
_DESKTOP = Behaviour(run=0.035, cpu=0.38, threads=6, text=220, virtual=420_000, resident=26_000, faults=30,
                     grow=0.04, growth=300)  # fmt: skip

#: kind -> (behaviour, roles where it lives ("*" everywhere), names)
_CATALOGUE: tuple[tuple[Behaviour, str, str], ...] = (
    (
        KERNEL,
        "*",
        """kworker/0:0H kworker/0:1H kworker/1:0H kworker/1:1H kworker/2:0H kworker/2:1H kworker/3:0H kworker/3:1H
        kworker/u8:0H netns khungtaskd writeback crypto kintegrityd bioset kblockd ata_sff md devfreq_wq kthrotld
        scsi_tmf_0 scsi_tmf_1 ttm_swap ext4-rsv-conver jbd2/sda1-8 charger_manager ipv6_addrconf acpi_thermal_pm
        vmw_pvscsi_wq_0 deferwq""",
    ),
    (
        _DAEMON,
        "*",
        """systemd systemd-journal systemd-udevd systemd-logind systemd-timesyn accounts-daemon acpid atd avahi-daemon
        cron cups-browsed cupsd dbus-daemon dhclient dnsmasq irqbalance login agetty lvmetad ModemManager
        NetworkManager polkitd rsyslogd snapd sshd thermald upowerd whoopsie wpa_supplicant VGAuthService uuidd
        rtkit-daemon packagekitd udisksd colord bash sudo screen ssh-agent""",
    ),
    (replace(_DAEMON, run=0.75, cpu=0.08, threads=1, text=260, resident=9_000, faults=900), "*", "atop"),
    (replace(_DAEMON, run=0.3, cpu=0.04, threads=1), "*", "vmtoolsd"),
    (
        _DESKTOP,
        "desk",
        """unity-panel-ser unity-settings- unity-greeter gnome-keyring-d gnome-session-b gnome-terminal- gnome-software
        nautilus nm-applet polkit-gnome-au indicator-messa indicator-sound indicator-datet indicator-power
        indicator-sessi indicator-print ibus-daemon ibus-dconf ibus-engine-sim ibus-ui-gtk3 ibus-x11 bamfdaemon
        hud-service window-stack-br evolution-calen evolution-sourc evolution-addre gvfsd gvfsd-trash
        gvfs-udisks2-vo gvfs-mtp-volume zeitgeist-daemo zeitgeist-fts zeitgeist-datah dconf-service at-spi-bus-laun
        at-spi2-registr lightdm upstart upstart-udev-br upstart-dbus-br upstart-file-br goa-daemon mission-control
        tracker-store tracker-extract deja-dup-monito gconfd-2 notify-osd soffice.bin""",
    ),
    (_HOT, "desk", "firefox Web\\x20Content compiz Xorg thunderbird chrome code java"),
    (replace(_DESKTOP, policy="nicest", run=0.1), "desk", "tracker-miner-f"),
    (replace(_DESKTOP, policy="nice"), "desk", "update-notifier"),
    (replace(_DESKTOP, policy="audio", run=0.1), "desk", "pulseaudio"),
    (_SERVER, "web", "nginx php-fpm7.0 named redis-server memcached node gunicorn python3"),
    (_WORKER, "web", "apache2 php-cgi uwsgi"),
    (_HOT, "web", "java node"),
    (_SERVER, "db", "mysqld postgres redis-server mongod named python3"),
    (_WORKER, "db", "postgres mysqld_safe"),
    (_HOT, "db", "mysqld java"),
    (_SERVER, "mail", "dovecot master clamd named amavisd-new opendkim spamd"),
    (_WORKER, "mail", "imap imap-login pop3-login smtpd qmgr cleanup pickup anvil auth"),
    (_HOT, "mail", "clamd perl"),
    (
        _SHORT,
        "*",
        """sh bash grep sed awk cat ls ps sleep find run-parts cron logrotate dpkg apt-get apt-check mandb lsb_release
        python3 perl curl wget ssh sshd su sudo df top tar gzip date basename id ip dig tcpdump systemd-tty-ask
        update-motd-upd mysqldump php git make gcc cc1""",
    ),
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program as a role runs it: `kind` is kernel, short (lived) or daemon."""

    name: str
    behaviour: Behaviour
    roles: str
    kind: str


def _kind(behaviour: Behaviour) -> str:
    return {KERNEL: "kernel", _SHORT: "short"}.get(behaviour, "daemon")


def programs() -> tuple[Program, ...]:
    """All programs; the name is what /proc/PID/comm has, not yet cut to atop's 14 characters."""
    return tuple(
        Program(name.replace("\\x20", " "), behaviour, roles, _kind(behaviour))
        for behaviour, roles, names in _CATALOGUE
        for name in names.split()
    )
