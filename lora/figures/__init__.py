"""Figures.

makespan: The picture of a plan: how long the whole grid takes on more and more devices, a line for each kind.
ranks: The metric against the rank: Table 6 as curves, and the curves of a trained beside those of a frozen head.
results: The tables' CSVs as pictures, in SVG and PNG. Nothing is computed here: every mark is a number some CSV holds.
style: What all figures share: reading a table's CSVs, colours and line styles, panels, labels, captions and legends.
subspace: The similarity of LoRA's subspaces as heat maps: Figures 3, 4, 6 and 7 of the paper out of phi.csv, in SVG and PNG.
"""
