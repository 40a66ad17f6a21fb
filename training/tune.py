"""A search over hyper-parameters (Optuna's TPE), in a study file that the next call goes on with.

Akiba et al.: "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.classifier.session import Source, train_classifier
from training.classifier.trainer import Recipe as ClassifierRecipe
from training.optimizers import Optimizer
from training.session import Start, train_detector
from training.trainer import Recipe as DetectorRecipe


def tune(study_file: Path, objective: Callable[[Any], float], trials: int, seed: int) -> Any:
    """Run ``trials`` more trials, the higher the better; the study (``best_value``, ``best_params``, ``trials``).

    The study lies in a journal file, one line a step: a call that was cut off loses its running trial alone.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study_file.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(study_file), lock_obj=JournalFileOpenLock(str(study_file)))
    study = optuna.create_study(
        study_name="passerby", storage=JournalStorage(backend), direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed + _trials(backend)),
    )  # fmt: skip
    study.optimize(objective, n_trials=trials)
    return study


def classifier_objective(source: Source, recipe: ClassifierRecipe, out: Path) -> Callable[[Any], float]:
    """The scene accuracy on the validation scenes; optimiser, step, decay, clip, dropout and smoothing are searched."""

    def objective(trial: Any) -> float:
        optimizer: Optimizer = trial.suggest_categorical("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
        step = trial.suggest_float("step", 1e-4, 2e-2, log=True) * (10 if optimizer == "sgd" else 1)
        tried = replace(
            recipe,
            optimizer=optimizer,
            step=step,
            weight_decay=trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
            clip=trial.suggest_float("clip", 0.5, 20, log=True),
            dropout=trial.suggest_float("dropout", 0.0, 0.6),
            smoothing=trial.suggest_float("smoothing", 0.0, 0.15),
        )
        return train_classifier(source, out / f"trial{trial.number}", tried, show=False).scene_accuracy

    return objective


def detector_objective(
    data: Path, root: Path | None, start: Start, recipe: DetectorRecipe, out: Path
) -> Callable[[Any], float]:
    """The mean AP50 on validation; step, decay and averaging are searched."""

    def objective(trial: Any) -> float:
        tried = replace(
            recipe,
            step=trial.suggest_float("step", 1e-4, 5e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 2e-1, log=True),
            average=trial.suggest_categorical("average", [0.99, 0.998, 0.9995]),
        )
        return train_detector(data, root, start, out / f"trial{trial.number}", tried)

    return objective


def table(study: Any, most: int = 10) -> str:
    """The best trials as Markdown."""
    done = sorted((each for each in study.trials if each.value is not None), key=lambda each: -each.value)
    names = sorted({name for each in done for name in each.params})
    lines = [f"{len(done)} trials, best {study.best_value:.3f}", "", f"| trial | score | {' | '.join(names)} |"]
    lines.append("| --- | --- |" + " --- |" * len(names))
    for each in done[:most]:
        told = [_shown(each.params.get(name)) for name in names]
        lines.append(f"| {each.number} | {each.value:.3f} | {' | '.join(told)} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _trials(backend: Any) -> int:
    """Steps in the journal so far: another seed each call, or every call would draw the same."""
    return sum(1 for _ in backend.read_logs(0))
