"""Figures: draw the CSV files of the tables, as SVG and PNG. Nothing is computed here.

alt_text: sentences of the text alternatives
direct_labels: labels at the lines of a panel, where there is room
drawing: a figure with its text alternative, and writing the files
head_ablation: metric by rank with a trained and with a frozen head
labels: names of models, metrics, methods and cells in figures
layout: panels, titles, labels, legends and captions that all figures share
learning_curves: metric and losses by epoch
makespan: time until a grid is done, by the number of devices
parameters: metric against the number of trained parameters
rank_cost: metric against the number of trained parameters, a line over ranks
ranks: metric by rank, beside the published curves
results: the list of the tables' figures, and drawing one by name
rows: read, select, group and sort the rows of the CSV files
style: fonts, colours, points and axes that all figures share
subspace: the paper's Figures 3, 4, 6 and 7 from phi.csv
table2: every run, our median and the published values of Table 2
"""
