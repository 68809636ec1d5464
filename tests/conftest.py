"""What every test needs before it is collected."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 kafka-python reads its schemas in a way that was deprecated for a
    # while, once, while it is imported; here every warning is an error.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401
