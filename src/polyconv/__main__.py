"""``python -m polyconv`` is the command ``polyconv``."""

from polyconv.cli import main

if __name__ == "__main__":
    main()
