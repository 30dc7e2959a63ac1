"""The one exception that is meant for the person at the keyboard."""


class ScrimpError(Exception):
    """Something the user can mend: the message names the thing at fault (file, key, name) and the remedy.

    The command line prints it without a traceback; library callers may catch it.
    """
