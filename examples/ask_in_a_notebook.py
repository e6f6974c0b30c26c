"""Ask what an engine has kept, from a notebook: alerts, the records around the worst, and SQL as a data frame.

python ask_in_a_notebook.py [DATA]
"""

import sys

import polars as pl

from hackwatch import load_settings, views

settings = load_settings(overrides={"data": sys.argv[1] if len(sys.argv) > 1 else None})

with views.open(settings) as data:
    # Lists come in pages; `every` asks for one after the other.
    alerts = list(views.every(lambda cursor: data.alerts(severity="medium", limit=100, cursor=cursor)))
    for alert in sorted(alerts, key=lambda alert: -alert.risk)[:1]:
        print(f"{alert.severity}: {alert.title}")
        for stream, page in data.around(alert, seconds=30).items():
            print(f"  {len(page)} records of {stream} within 30 s, {sum(record.causes for record in page)} raised it")
    for entity in data.entities(limit=5):
        print(f"{entity.name}: {sum(entity.records.values()):,} records, {entity.alerts} alerts nobody has looked at")
    # Rows of a query are read as they are asked for; Polars asks for all.
    frame = pl.DataFrame(data.sql("SELECT status, count(*) AS alerts FROM alerts GROUP BY ALL ORDER BY ALL"))
    print(frame)
