"""`python -m trainer` is `stream-trainer`."""

from trainer.cli import main

main()
