"""The app: a local page where people drop files, look, and let it run (``apisr app``).

A small server on this machine (Starlette and uvicorn) serves one page of plain modules. The work is done by child
processes through the public functions of the package, so a crash of a job does not stop the server; what is finished
lies in the same work folders as that of the command line.

    server.py     the life of the server
    handlers.py   files, previews, jobs: one method a route
    reviewing.py  datasets, decisions and reports: one method a route (library.py finds them)
    answers.py    requests checked, errors turned into answers
    security.py   who may ask: host, origin, token, limits, headers
    store.py      files, jobs and presets on the disk; names become opaque ids
    queue.py      one job after the other
    events.py     what happens, for every open page
    planning.py   time and size of jobs, measured by a child process (estimating.py)
    workers.py    child processes and their messages
    worker.py     what a child process does (looking.py, upscaling.py, estimating.py)
    opening.py    the file manager of this machine
    static/       the pages
"""
