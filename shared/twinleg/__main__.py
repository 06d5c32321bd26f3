"""``python -m twinleg`` is the ``twinleg`` command."""

import sys

from twinleg.cli import main

sys.exit(main())
