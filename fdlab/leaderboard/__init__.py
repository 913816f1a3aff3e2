"""Records in; comparable tables, a page, comparisons and model cards out.

`collect` finds records and groups what may be compared, `board` makes tables of them (`pooling`, `marks`,
`ranks`, by `evidence` from single pictures), `formats`, `latex` and `page` print those; `compare` and `diff`
set two records side by side.
"""
