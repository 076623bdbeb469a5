"""How good scores are: retrieval of clips of one kind, prediction of measured training effects, intervals of both."""
