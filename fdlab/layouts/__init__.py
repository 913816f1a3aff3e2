"""Data sets on disk in any layout: shards, plain folders; converted, checked, counted."""
