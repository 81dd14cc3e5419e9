"""Examples may take their time: on a busy machine the first ones do."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
