"""Will an SDM learn from a data set? What is in it, judged; and a minute of training on ten samples."""
