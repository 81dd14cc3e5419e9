"""The checks of ``kubectl pantala doctor``. Each reads facts that one module collects. Pure, except for ``facts``."""
