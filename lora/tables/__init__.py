"""Tables: from the files of finished runs to CSV, Markdown, LaTeX and HTML.

anchors: Letters of notes, at the cells, rows and columns that they are about.
cells: Aggregate runs into the cells of a table, and write the table.
captions: Captions of the tables in the report, made from the grid.
claims: Claims of the paper, checked against the runs of a grid.
collect: Check every run against the config and gather all metrics.csv into runs.csv.
compare: Compare two runs, or two cells with the same seeds.
constant: Runs that predict one class for every example of the evaluation set.
differences: Two cells of one model and task compared, paired by seed.
home: First page of the report: what was run, which claims hold, and one figure.
import_course: Import result folders of the course re-implementation as runs.
labels: Names and number formats, and the records that a page is made of.
layout: Arrange a table on its page as the paper does; Table 2.
layout_details: Arrange the second page of a table, with all statistics.
layout_ranks: Arrange Tables 5 and 6: the shape over weight types and over ranks.
majority: Metric of always predicting the most frequent evaluation label.
margins: Notes on which differences to published values are within their uncertainty.
notes: Notes of a table.
protocol_notes: Notes on protocols: sources of their values, overrides, and warm starts.
provenance: Data, model, versions, device and commit of every run.
published: Match published values to our cells, and compute the differences.
published_notes: Notes on published values, and on our differences to them.
render: Render a table as Markdown, LaTeX and HTML from the jinja2 templates in templates/.
selection: Selection table: best epoch minus last epoch of every run.
sources: Check that a cell has the model and data that published values are about.
statistics: Best and last epoch of each run, and statistics over runs.
table7: Table 7 of the paper for our runs: how W and dW relate.
terminal: Render a table as plain text for a terminal.
uncertainty: Uncertainty of the difference between our value and a published one.
"""
