"""Data.

examples: Text and labels of a task from a fetched folder: GLUE as saved from the hub, GLUE's official TSV files, or the demo's
fetch: Bytes from where a source says they are, checked, then in place all at once.
hub: Models and data sets of the Hugging Face hub at one commit, checked against the hub's own hashes.
tokens: Text to tokens, once for each model, task and length; then batches of real tokens, unpadded, in a run's own order.
"""
