"""HTML pages of runs, comparisons and data sets, each one file that opens offline."""
