"""Pictures as the networks take them: framed, cut out, changed at random."""
