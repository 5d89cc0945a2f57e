"""Deep learning on chest radiographs (COVID-19, normal, other pneumonia): a hands-on course and its library.

The names that most work needs can be had from here, `from covid_xray import load_table, fit`; each is loaded with its
module when it is first asked for, so that `import covid_xray` stays instant and does not load torch.
"""
__version__ = "0.1.0"

_MODULE_OF = {
    "CLASSES": "records", "load_table": "sources", "select_task": "sources", "split_by_patient": "splits",
    "ensure_split": "splits", "patient_folds": "splits", "read_radiograph": "data", "Radiographs": "data",
    "Augment": "augment",
    "create_model": "cnn", "load_model": "models", "predict": "models", "save_model": "models", "Predictions": "models",
    "fit": "training", "History": "training", "metrics_table": "metrics", "metrics_table_with_intervals": "intervals",
    "explain": "gradcam", "train_run": "run",
}
__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> object:
    "Load a name from its module on first use (PEP 562)"
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'covid_xray' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"covid_xray.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
