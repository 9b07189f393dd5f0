"""Libraries with loops of their own: Keras is heard through a callback, others are not seen."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from jupyter_aios.training.curves.capture import Capture
    from jupyter_aios.training.curves.patches import Patches

_KERAS = "keras.src.callbacks.callback_list"
UNSEEN = {
    "sklearn": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
}
"""What trains without `backward`."""

_RATE_EVERY_S = 0.1


class ImportWatch(importlib.abc.MetaPathFinder):
    """Says when one of some modules has been imported, and finds nothing itself."""

    def __init__(self, imported: dict[str, Callable[[ModuleType], None]]) -> None:
        self._imported = imported

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the others find, with a word when its module is there."""
        tell = self._imported.pop(fullname, None)
        if tell is None:
            return None
        spec = None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    break
        if spec is not None and isinstance(spec.loader, importlib.abc.Loader):
            loader, execute = spec.loader, spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                tell(module)

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch_imports(capture: Capture, patches: Patches) -> None:
    """Give Keras a callback when it is imported, and name libraries whose loops are not seen."""

    def unseen(name: str) -> Callable[[ModuleType], None]:
        return lambda _module: capture.meet_unseen(name)

    tells: dict[str, Callable[[ModuleType], None]] = {
        module: unseen(name) for module, name in UNSEEN.items()
    }
    tells[_KERAS] = lambda module: _listen_to_keras(module, capture, patches)
    sys.meta_path.insert(0, ImportWatch(tells))


def _listen_to_keras(module: ModuleType, capture: Capture, patches: Patches) -> None:
    """Add a callback of ours to each list of callbacks that Keras makes."""
    callback_list: Any = module.CallbackList
    original = callback_list._add_default_callbacks  # noqa: SLF001 - where Keras adds its own

    def add_default_callbacks(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        original(self, *args, **kwargs)
        self.callbacks.append(_callback(capture))

    patches.replace(callback_list, "_add_default_callbacks", add_default_callbacks)


def _callback(capture: Capture) -> Any:  # noqa: ANN401
    """Return a Keras callback that hands the logs on."""
    from keras.callbacks import Callback

    class Curves(Callback):  # type: ignore[misc]
        """What Keras tells its callbacks, as curves."""

        async_safe = True  # or its presence would change how Keras dispatches callbacks
        base_step = 0
        rate_at = 0.0

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ANN401, ARG002
            steps, epochs = self.params.get("steps"), self.params.get("epochs")
            total = capture.rank.step + steps * epochs if steps and epochs else 0
            how = f"Keras' fit: {epochs} epochs × {steps} batches" if total else "Keras' fit: steps"
            capture.progress.tell(total, how if total else f"{how} unknown until the first epoch")

        def on_train_batch_end(self, _batch: int, logs: Any = None) -> None:  # noqa: ANN401
            capture.count_keras_step(self)
            for name, value in (logs or {}).items():
                capture.add(name, "Keras' logs: mean since the epoch's start", value)
            now = time.monotonic()
            if now - self.rate_at >= _RATE_EVERY_S:
                self.rate_at = now
                self._add_rate()
            capture.flush_if_due()

        def on_epoch_end(self, _epoch: int, logs: Any = None) -> None:  # noqa: ANN401
            for name, value in (logs or {}).items():
                if name.startswith("val_"):
                    capture.add(name, "Keras' logs: at the epoch's end", value)
            self._add_rate()
            capture.flush_if_due()

        def _add_rate(self) -> None:
            optimizer = getattr(self.model, "optimizer", None)
            rate = getattr(optimizer, "learning_rate", None)
            if rate is not None:
                capture.add("lr", "learning_rate of Keras' optimizer", float(rate))

    return Curves()
