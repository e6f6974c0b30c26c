"""What a person is told: alerts, the policy that raises and counts them, the forms in which they are sent.

Pure: no file, clock or network is touched here; `store` keeps alerts and `routes` deliver them.
"""
