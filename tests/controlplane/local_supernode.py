"""The supernode, but that it keeps what is no longer wanted for ``GRACE`` seconds: tests wait that out."""

import os
import sys
from dataclasses import replace

from pantala_supernode import process, settings

if __name__ == "__main__":
    process.run(replace(settings.parse(sys.argv[1:], os.environ), grace=float(os.environ["GRACE"])))
