"""Figures: draw the CSV files of the tables, as SVG and PNG. Nothing is computed here.

makespan: time until a grid is done, by the number of devices
ranks: rank curves, and trained against frozen heads
results: Table 2, learning curves, and metric against trained parameters
style: colours, labels, panels and captions that all figures share
subspace: the paper's Figures 3, 4, 6 and 7 from phi.csv
"""
