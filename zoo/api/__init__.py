"""The public functions and classes of ``import zoo``; the command line calls them too."""
