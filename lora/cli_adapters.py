"""Commands that use a trained adapter: `lora merge`."""

from argparse import ArgumentParser, Namespace

from lora import cli_options, paths


def add_merge(parser: ArgumentParser) -> None:
    """Add the arguments of `lora merge`."""
    parser.add_argument(
        "--adapter-dir",
        type=paths.argument,
        required=True,
        help="adapter/ of a run, or a PEFT LoRA folder",
    )
    parser.add_argument(
        "--model-dir", type=paths.argument, required=True, help="folder of the base model"
    )
    parser.add_argument(
        "--label-names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="name of each class, class 0 first (default: those of the adapter's run)",
    )
    cli_options.add_output_dir(parser, "a new or empty folder")


def merge(arguments: Namespace) -> None:
    """Write the transformers checkpoint that an adapter makes of its base model."""
    from lora.adapters import merge

    merge.merge(
        arguments.adapter_dir,
        arguments.model_dir,
        arguments.output_dir,
        names=arguments.label_names,
    )
