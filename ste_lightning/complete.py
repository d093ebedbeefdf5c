"""Completion for bash and zsh: ``python -m ste_lightning.complete bash > FILE``.

The script completes ``python -m ste_lightning.COMMAND``: recipes, config groups and their options,
quantizers and backward rules. Read it in your shell's start file (``. FILE``); write it again after
an update of the package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ste_lightning.io.paths import CONF

__all__ = ["candidates", "main", "script"]

COMMANDS = ("combine", "compare", "complete", "diff", "export", "new", "playground", "predict",
            "report", "results", "rules", "study", "train")  # fmt: skip
_RULED = ("model.rule", "quantizer.weight.rule", "quantizer.input.rule")
_QUANTIZED = ("quantizer.weight", "quantizer.input", "quantizer.weight.map", "quantizer.input.map")
_KEYS = ("seed=", "resume=", "init_from=", "ckpt_path=", "mode=train", "mode=test",
         "trainer.max_epochs=", "optimizer.lr=", "data.batch_size=", "write_report=false",
         "--multirun", "--cfg", "--help", "--help-all")  # fmt: skip
_STUDY = ("base.trials=", "base.steps=", "grid.n=", "workers=", "launcher=local", "launcher=ray",
          "small=true", "write_report=false", "--multirun", "--help",
          "--help-all")  # fmt: skip

_SCRIPT = r"""# Completion for python -m ste_lightning.COMMAND, in bash and zsh.
[ -n "${ZSH_VERSION:-}" ] && autoload -U +X bashcompinit && bashcompinit
_ste_lightning() {
  local line="${COMP_LINE:0:$COMP_POINT}" word words prefix
  word="${line##* }"
  COMPREPLY=()
  [[ "$line" == *" -m ste_lightning"* ]] || { COMPREPLY=($(compgen -f -- "$word")); return; }
  case "$line" in
    *" -m ste_lightning.train "*|*" -m ste_lightning.compare "*) words='@TRAIN@' ;;
    *" -m ste_lightning.study "*) words='@STUDY@' ;;
    *" -m ste_lightning."*" "*) COMPREPLY=($(compgen -f -- "$word")); return ;;
    *) words='@COMMANDS@' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  # bash splits words at "=": it wants what follows the last one.
  prefix="${word%"${word##*=}"}"
  [ -n "${ZSH_VERSION:-}" ] || COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
}
complete -F _ste_lightning python python3
"""


def candidates() -> dict[str, list[str]]:
    """Return the words that can follow: of ``train``, of ``study``, and the commands."""
    from ste_lightning.functional import surrogate_names
    from ste_lightning.quantizers import quantizer_names
    from ste_lightning.running.recipes import recipe_names

    groups = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir()]
    train = [f"+recipe={name}" for name in recipe_names()]
    train += [
        f"{group.name}={file.stem}"
        for group in groups
        if group.name not in ("study", "export")
        for file in sorted(group.glob("*.yaml"))
    ]
    train += [f"{key}={name}" for key in _RULED for name in surrogate_names()]
    train += [f"{key}={name}" for key in _QUANTIZED for name in quantizer_names()]
    study = [f"+recipe={name}" for name in recipe_names(studies=True)]
    study += [f"base.rule={name}" for name in surrogate_names()]
    return {
        "TRAIN": [*train, *_KEYS],
        "STUDY": [*study, *_STUDY],
        "COMMANDS": [f"ste_lightning.{name}" for name in COMMANDS],
    }


def script() -> str:
    """Return the shell script."""
    text = _SCRIPT
    for name, words in candidates().items():
        text = text.replace(f"@{name}@", " ".join(words))
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.complete",
        description="Print the script that completes recipes, options, rules and quantizers.",
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    parser.parse_args(arguments)
    print(script(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
