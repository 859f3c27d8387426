"""Tables.

cells: From rows to table cells: which statistic is taken of a cell's runs, and which published figure stands beside it.
collect: From run folders to one CSV, and to the record of what every run stood on.
import_course: Result folders of the course re-implementation, read into the layout of runs here, so that tables are made of them.
labels: What a page is made of: the records that every format is rendered from, and how figures are written in text.
layout: Where things stand on a table's page: its cells and what is published, arranged as the paper arranges them.
layout_ranks: Tables 5 and 6 on a page: the shape of the metric over weight types and over ranks, beside GPT-3's.
notes: What a reader must know to read a table: what n and ± are, which epoch, which metric, which protocol, which traps.
published: Which published figure stands beside which of ours, and how they differ.
render: A page in Markdown, LaTeX and HTML: the same text in each, escaped for it, and nothing else.
selection: What choosing the best epoch adds: the optimism of the paper's protocol, measured on our own runs.
statistics: Which epochs of a run count: its best and its last one, out of runs.csv, and statistics over runs.
"""
