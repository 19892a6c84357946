"""dbus-broker on a socket of its own, without systemd: broker.py SOCKET CONFIGURATION.

Its launcher takes the listening socket from its parent, and writes to the journal's socket, without which
it does not start. Both are made here, in a mount namespace in which /run is empty.
"""

import os
import socket
import sys

path, configuration = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
os.chmod(path, 0o666)
listener.listen(1024)
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
if os.fork() == 0:
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    launcher = ["dbus-broker-launch", "--scope", "system", "--config-file", configuration]
    os.execvp("setpriv", ["setpriv", "--pdeathsig", "KILL", "--", *launcher])
listener.close()
# Connections wait in the listening socket until the broker takes them.
print("listening", flush=True)
while True:
    sys.stderr.buffer.write(journal.recv(2**16))
    sys.stderr.flush()
