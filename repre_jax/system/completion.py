"""Completion of the command line in a shell: flags, names of configs, and the variants that each config has."""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from repre_jax.core.errors import UnknownVariant, UserError
from repre_jax.system import shipped

SHELLS = ("bash", "zsh")
NONE = "?"  # a variant that no config has

SCRIPT = r"""
# Completes {script}, and `python main.py` of a clone: source <({program} --completion {shell})
_repre_jax_variants() {{
  case $1 in
{variants}
  esac
}}
_repre_jax() {{
  local line=${{COMP_LINE:0:$COMP_POINT}} part=${{COMP_WORDS[COMP_CWORD]}} word before value lead kept= found each
  word=${{line##*[[:space:]]}}
  before=${{line%"$word"}} before=${{before%"${{before##*[![:space:]]}}"}} before=${{before##*[[:space:]]}}
  COMPREPLY=()
  [[ $part == [:=] ]] && part=
  lead=${{word%"$part"}}  # what the shell takes for words before
  if [[ $word == --config=* ]]; then kept=--config= value=${{word#--config=}}
  elif [[ $before == --config ]]; then value=$word
  elif [[ $word == -* ]]; then COMPREPLY=($(compgen -W '{flags}' -- "$word")); return
  else return; fi
  if [[ $value == *:* ]]; then
    local list=${{value#*:}} name=${{value%%:*}}
    local last=${{list##*,}}
    kept+=${{value%"$last"}}
    name=${{name##*/}}
    found=$(compgen -W "$(_repre_jax_variants "${{name%.py}}")" -- "$last")
  elif [[ $value == */* ]]; then return  # a path
  else found=$(compgen -W '{configs}' -- "$value"); fi
  for each in $(echo $found); do each=$kept$each; COMPREPLY+=("${{each#"$lead"}}"); done
}}
complete -o default -F _repre_jax {script}
{clone}
"""
# What already completes `python` goes on to do so where it does not run main.py.
OF_CLONE = {
    "bash": r"""
_repre_jax_python() {
  COMPREPLY=()
  if [[ ${COMP_WORDS[1]} == main.py ]]; then _repre_jax
  elif [[ -n $_repre_jax_before ]]; then "$_repre_jax_before" "$@"; fi
}
_repre_jax_found=$(complete -p python 2>/dev/null || true)
case $_repre_jax_found in
  *_repre_jax_python*) ;;
  *' -F '*) _repre_jax_before=${_repre_jax_found##*-F }; _repre_jax_before=${_repre_jax_before%% *} ;;
  *) _repre_jax_before= ;;
esac
complete -o bashdefault -o default -F _repre_jax_python python python3
""",
    "zsh": r"""
_repre_jax_python() {
  if [[ ${words[2]} == main.py ]]; then _bash_complete -o default -F _repre_jax
  elif [[ -n $_repre_jax_before ]]; then $_repre_jax_before
  else _default; fi
}
[[ ${_comps[python]} == _repre_jax_python ]] || _repre_jax_before=${_comps[python]}
compdef _repre_jax_python python python3
""",
}
FOR_ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit"


def script(shell: str, files: Iterable[Path], flags: Iterable[str]) -> str:
    """To be sourced by `shell`. files: of configs; the first of a name counts. Raises UserError for another shell."""
    if shell not in SHELLS:
        raise UserError(f"--completion is {shell!r}.\n  expected: {' or '.join(SHELLS)}")
    known: dict[str, tuple[str, ...]] = {}
    for file in files:
        known.setdefault(file.stem, variants(file))
    text = SCRIPT.format(
        program=shipped.program(),
        script=shipped.SCRIPT,
        shell=shell,
        variants="\n".join(f"    {name}) echo '{' '.join(known[name])}' ;;" for name in sorted(known)),
        configs=" ".join(sorted(known)),
        flags=" ".join(f"--{flag}" for flag in flags),
        clone=OF_CLONE[shell].strip(),
    )
    return (f"{FOR_ZSH}\n" if shell == "zsh" else "") + text.lstrip("\n")


def variants(file: Path) -> tuple[str, ...]:
    """Those of a config; () for one that takes none, or does not say which."""
    spec = importlib.util.spec_from_file_location(f"_completed_{file.stem}", file)
    if spec is None or spec.loader is None:
        return ()
    module = importlib.util.module_from_spec(spec)
    # A user's own file is to hinder nobody, and what it prints is no part of the script.
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
        get_config: Callable[[str], object] = module.get_config
        try:
            get_config(NONE)
        except UnknownVariant as error:
            return error.known
    return ()
