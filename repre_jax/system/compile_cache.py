"""Compiled programs are kept on the disk, so that the next start of the same program does not compile it again.

JAX executes what it finds there: the folder must be one that nobody but the user can write to.
"""

import hashlib
import os
import platform
import stat
from pathlib import Path

import jax

from repre_jax.system import kept_programs, terminal

VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own; where it is set, it decides


def keep(folder: Path | None = None) -> Path | None:
    """Makes JAX keep every program in `folder`, by default $XDG_CACHE_HOME/repre_jax or ~/.cache/repre_jax, in a part
    for this kind of processor; to be called before anything is compiled. What was used longest ago is removed where
    all parts together take more than kept_programs.LIMIT.

    Returns that part, or None, with a warning, where it cannot be made or others could write to it, and without one
    where the user has set $JAX_COMPILATION_CACHE_DIR.
    """
    if os.environ.get(VARIABLE):
        return None
    part = Path("~/.cache")
    try:
        base = folder or kept_programs.base()
        part = base / f"xla-{_processor()}"
        for path in (base.parent, base, part):  # one by one: parents=True would give them the umask's mode
            path.mkdir(mode=0o700, exist_ok=True)
        part = part.resolve()  # a link could be led elsewhere after it was looked at
        fault = _fault(part)
    except (OSError, RuntimeError) as error:  # the latter where nobody knows the user's home
        fault = f"{part}: {getattr(error, 'strerror', None) or error}"
    if fault:
        terminal.warn(f"Compiled programs are not kept: {fault}. Another place: {VARIABLE}=DIR")
        return None
    kept_programs.bound(base)
    jax.config.update("jax_compilation_cache_dir", str(part))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return part


def _fault(folder: Path) -> str | None:
    """Why someone else could put a program there, None when nobody could."""
    for path in (folder.resolve(), *folder.resolve().parents):
        found = path.stat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_uid not in (os.getuid(), 0) or (others and not (path != folder and found.st_mode & stat.S_ISVTX)):
            return f"others can write to {path}"
    if not os.access(folder, os.W_OK):
        return f"{folder} cannot be written to"
    return None


def _processor() -> str:
    """Tells apart processors that a program for the CPU would not run on both of: a home may be shared by several."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else [platform.processor()]
    own = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(own or lines[:1]).encode()).hexdigest()[:12]}"
