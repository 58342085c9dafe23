"""``python -m meterflow``."""

from meterflow.cli import main

if __name__ == "__main__":
    main()
