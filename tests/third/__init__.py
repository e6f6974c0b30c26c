"""A family of a third party, `shop`: of another kind than hosts, and installed beside hackwatch for some tests.

`support` installs it, `site` is its package, `oracle` says by brute force what a pipeline must make of any family.
"""
