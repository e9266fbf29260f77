"""What a person can do about a refusal, where several refusals share it. Every refusal of the app ends with advice."""

from __future__ import annotations

#: Where a page asks for something that is not there (any more), or in a way in which pages do not ask.
RELOAD = "Reload the page: it then shows what is there now."
#: Where the disk refuses.
CHECK_DISK = "Look whether it is full, connected and writable, and try again."
#: Where a child process ended. ``Try again`` is also what the button of a failed job says.
TRY_AGAIN = "Try again: a new one is started, and a video goes on at its last finished part."
