"""`python -m hypergradient`, which is the command `hypergradient`."""

from hypergradient.study.cli import main

if __name__ == "__main__":
    main()
