"""`mace-tp completion bash`: prints a script that completes commands, options, keys of the configuration and their values in bash.

The script holds all words, so that a key press does not start Python. If no word fits, bash completes file names.
"""

import argparse
import importlib
from collections.abc import Iterator

from mace_tp.cli.config_errors import group_options, schema_keys
from mace_tp.cli.main import COMMANDS
from mace_tp.config import CHOICES
from mace_tp.tensor_products.registry import tensor_product_names

_TRAIN = ("--config", "--dry-run", "--cfg", "--multirun", "--help")
_SCRIPT = """\
# Completion of mace-tp for bash, made by `mace-tp completion bash`.
_mace_tp() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} key= stem= words= context
    [[ $command =~ ^convert$ ]] && ((COMP_CWORD > 2)) && command+=" ${COMP_WORDS[2]}"
    # Bash splits words at `=`, unless COMP_WORDBREAKS lacks it.
    if [[ $word == = ]]; then key=$before word=
    elif [[ $before == = ]]; then key=${COMP_WORDS[COMP_CWORD-2]}
    elif [[ $word == *=* ]]; then key=${word%%=*} word=${word#*=} stem=$key=
    fi
    if ((COMP_CWORD == 1)); then context=
    elif [[ -n $key ]]; then context="$command $key="
    elif [[ $word == -* ]]; then context="$command -"
    elif [[ $before == -* && ! $before =~ ^(-m|--multirun|--dry-run)$ ]]; then context="$command $before"
    else context="$command "
    fi
    case "$context" in
@CASES@
    esac
    COMPREPLY=($(compgen -P "$stem" -W "$words" -- "$word"))
    [[ ${COMPREPLY[0]} == *= && -z $key ]] && compopt -o nospace
    return 0
}
complete -o bashdefault -o default -F _mace_tp mace-tp
"""


def main(arguments: list[str]) -> None:
    _parser().parse_args(arguments)
    cases = [f"    '{context}') words='{' '.join(words)}' ;;" for context, words in _contexts()]
    print(_SCRIPT.replace("@CASES@", "\n".join(cases)), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace-tp completion",
        description="Print a script that completes commands, options, keys and file names in the shell: "
        "mace-tp completion bash > FILE, and `source FILE` in ~/.bashrc.",
    )
    parser.add_argument("shell", choices=("bash",))
    return parser


def _contexts() -> Iterator[tuple[str, list[str]]]:
    """Yield contexts and the words that may follow: `COMMAND `, `COMMAND OPTION`, `COMMAND KEY=`, and `COMMAND -` for options."""
    yield "", [*COMMANDS, "--help", "--version"]
    for command in COMMANDS:
        if command != "train":
            yield from _of_parser(command, importlib.import_module(f"mace_tp.cli.{command}")._parser())
    yield "train -", list(_TRAIN)
    yield "train --cfg", ["job", "hydra", "all"]
    yield "train ", [f"{key}=" for key in [*group_options(), *schema_keys()]]
    for key, words in _values().items():
        yield f"train {key}=", words


def _of_parser(command: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    options: list[str] = []
    for action in parser._actions:
        choices = list(map(str, action.choices or ()))
        options += action.option_strings[-1:]
        for name in action.option_strings or [""]:
            if choices:
                yield f"{command} {name}", choices
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _of_parser(f"{command} {name}", child)
    yield f"{command} -", options


def _values() -> dict[str, list[str]]:
    """Return the valid values of every key that accepts one of a few words."""
    sites = dict.fromkeys(("tensor_product", "tensor_product.interaction", "tensor_product.product_basis"), tensor_product_names())
    named = {key: ["null" if word is None else word for word in words] for key, words in CHOICES.items()}
    truths = {key: ["true", "false"] for key, value in schema_keys().items() if isinstance(value, bool)}
    return {**group_options(), **sites, **named, **truths}
