"""Records in; comparable tables out.

`collect` finds records and groups what may be compared, `board` makes `tables` of them (`pooling`, `marks`,
`ranks`, by `evidence` from single pictures), `compare` sets two records side by side. How they are shown is
`publishing`'s.
"""
