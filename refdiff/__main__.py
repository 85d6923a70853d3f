"""``python -m refdiff`` is the command line."""

from refdiff.cli import app

if __name__ == "__main__":
    app(prog_name="refdiff")
