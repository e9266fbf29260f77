"""The app: a local page where people drop files, look, and let it run (``apisr app``).

A small server on this machine (Starlette and uvicorn) serves one page of plain modules. The work is done by child
processes through the public functions of the package, so a crash of a job does not stop the server; what is finished
lies in the same work folders as that of the command line.

    server.py     the life of the server
    handlers.py   one method a route
    security.py   who may ask: host, origin, token, limits, headers
    store.py      files, jobs and presets on the disk; names become opaque ids
    queue.py      one job after the other, events for the page
    workers.py    child processes and their messages
    worker.py     what a child process does
    static/       the page
"""
