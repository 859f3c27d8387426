"""Measure and check training on a GPU in ten minutes: `make gpu`.

__main__: command line: run the steps that are not done, write the report
checks: packed runs against single ones, learning, kill and resume, two GPUs
devices_row: the row of config/devices.csv that fits the measured speed
report: all steps as one JSON and one Markdown file, and the README's status
settings: sizes and folders of the kit
speed: the machine, and training speed and memory beside PEFT
steps: the steps, their time limits, and their JSON files
"""
