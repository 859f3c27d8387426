"""Figures: draw the CSV files of the tables, as SVG and PNG. Nothing is computed here.

labels: names of models, metrics, methods and cells in figures
learning_curves: metric and losses by epoch
makespan: time until a grid is done, by the number of devices
parameters: metric against the number of trained parameters
ranks: rank curves, and trained against frozen heads
results: the list of the tables' figures, and drawing one by name
rows: read, select, group and sort the rows of the CSV files
style: colours, panels, legends and captions that all figures share
subspace: the paper's Figures 3, 4, 6 and 7 from phi.csv
table2: every run, our median and the published values of Table 2
"""
