#!/usr/bin/python3
"""Shows a container's state, memory limit and addresses, now and whenever one of its properties changes.

Usage: watch-container.py CONTAINER   (package python3-dasbus)
"""
import sys
from dasbus.connection import SystemMessageBus
from dasbus.loop import EventLoop
from dasbus.typing import get_native

bus = SystemMessageBus()
path = bus.get_proxy("org.lockerd1", "/org/lockerd1").GetContainer(sys.argv[1])
container = bus.get_proxy("org.lockerd1", path)
def show(*_change):
    addresses = get_native(container.Describe()).get("Addresses", [])
    print(f"State={container.State} MemoryLimit={container.MemoryLimit}",
          *(f"{interface}={address}" for interface, address in addresses), flush=True)
container.PropertiesChanged.connect(show)
show()
EventLoop().run()
