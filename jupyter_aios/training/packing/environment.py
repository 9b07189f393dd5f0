"""Which of the notebook's environment variables travel to the ranks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NO_PROXY", "no_proxy",
})  # fmt: skip
_PREFIXES = (
    "LC_", "XDG_", "PYTHON", "CUDA_", "NVIDIA_", "ROCM_", "HIP_", "NCCL_", "GLOO_", "TP_",
    "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "NUMEXPR_", "TORCH_", "TORCHINDUCTOR_",
    "PYTORCH_", "TRITON_", "KERAS_", "AIOS_",
)  # fmt: skip
_PROXIES = frozenset(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"])
_LEFTOVERS = frozenset(
    # The kernel's own: a rank with these would draw into a notebook that is not there, or wait for
    # a debugger that never comes.
    ["MPLBACKEND", "PYDEVD_USE_FRAME_EVAL", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"]
)
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|AUTH|PRIVATE|(?:^|_)(?:API)?KEYS?(?:_|$)"
    r"|(?:^|_)(?:PWD|PAT|DSN)(?:_|$)",
    re.IGNORECASE,
)


def environment_for_job(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the variables that travel, sorted by name: an allow-list, without anything secret.

    What looks like a token, key or password never travels; neither do proxies with credentials.

    Example:
        >>> environment_for_job({"OMP_NUM_THREADS": "2", "HF_TOKEN": "…", "JPY_PARENT_PID": "1"})
        (('OMP_NUM_THREADS', '2'),)

    """
    return tuple(sorted((name, value) for name, value in environ.items() if _travels(name, value)))


def _travels(name: str, value: str) -> bool:
    if name in _LEFTOVERS or _SECRET.search(name) or "\0" in value:
        return False
    if name.upper() in _PROXIES:
        return _has_no_credentials(value)
    return name in _NAMES or name.startswith(_PREFIXES)


def _has_no_credentials(url: str) -> bool:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
    except ValueError:
        return False
    return "@" not in parts.netloc
