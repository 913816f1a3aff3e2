"""One module a verb: it parses, calls and prints. Heavy imports happen inside functions, so that --help is quick."""
