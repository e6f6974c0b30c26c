"""The families: each a folder that declares what belongs together. General code imports none of them."""
