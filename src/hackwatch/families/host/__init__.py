"""Linux hosts: what their processes do and what memory these occupy."""
