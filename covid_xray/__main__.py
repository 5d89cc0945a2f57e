"""`python -m covid_xray` is the command line."""
from covid_xray.cli import main

main()
