"""One module a verb: it parses, calls and prints. Heavy imports wait inside functions: --help is quick."""
