"""What is wrong with a data set, and its repair."""
