#!/usr/bin/python3
"""Mounts a locker in a running container and tells how that ended (package python3-dasbus).

Usage: attach-locker.py CONTAINER LOCKER
"""
import sys

from dasbus.connection import SystemMessageBus
from dasbus.error import DBusError
from dasbus.typing import get_variant, Bool

bus = SystemMessageBus()
manager = bus.get_proxy("org.lockerd1", "/org/lockerd1", "org.lockerd1.Manager")
container, locker = sys.argv[1:]
options = {"read-only": get_variant(Bool, True), "interactive": get_variant(Bool, True)}
try:
    path = manager.MountLocker(container, locker, options, timeout=300_000)
    job = bus.get_proxy("org.lockerd1", path, "org.lockerd1.Job")
    result, _, message = job.Wait(0, timeout=300_000)
    print(f"{container}: {result}{': ' + message if message else ''}")
    place = bus.get_proxy("org.lockerd1", manager.GetContainer(container), "org.lockerd1.Container")
    for name, _, read_only in place.Lockers:
        print(f"  {name}{' (read-only)' if read_only else ''}")
    sys.exit(0 if result == "done" else 1)
except DBusError as error:
    sys.exit(f"{container}: {error}")
