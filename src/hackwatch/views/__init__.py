"""What people ask: typed read models, and SQL, over store and lake. For every face, scripts and notebooks.

from hackwatch import load_settings, views

with views.open(load_settings()) as data:
    for alert in data.alerts(severity="high"):
        print(alert.title)
    frame = polars.DataFrame(data.sql("SELECT machine, count(*) FROM process GROUP BY ALL"))
"""

from hackwatch.views.intervals import Entity, Interval, Window
from hackwatch.views.live import EntityView, Note, Reader, StreamView, Tone, View, snapshot
from hackwatch.views.pages import Page, every
from hackwatch.views.panels import PanelView, Ranked
from hackwatch.views.status import EngineStatus
from hackwatch.views.views import Views, of_engine, open

__all__ = [
    "EngineStatus",
    "Entity",
    "EntityView",
    "Interval",
    "Note",
    "Page",
    "PanelView",
    "Ranked",
    "Reader",
    "StreamView",
    "Tone",
    "View",
    "Views",
    "Window",
    "every",
    "of_engine",
    "open",
    "snapshot",
]
