"""`python -m ingest` is `ingest`; the processes of a backfill import it, and begin nothing."""

from ingest.cli import main

if __name__ == "__main__":
    main()
