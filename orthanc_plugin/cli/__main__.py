"""`python -m orthanc_plugin.cli`: the command line by the interpreter that is asked."""

import sys

from orthanc_plugin.cli.main import main

sys.exit(main())
