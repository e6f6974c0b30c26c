"""The models behind bundles: how each scores, explains itself and is kept."""
