#!/usr/bin/python3
"""Shows a container's state and limits, now and whenever one of them changes (package python3-dasbus).

Usage: watch-container.py CONTAINER
"""
import sys
from dasbus.connection import SystemMessageBus
from dasbus.loop import EventLoop
from dasbus.typing import get_native

shown = "State", "MemoryLimit"
bus = SystemMessageBus()
path = bus.get_proxy("org.lockerd1", "/org/lockerd1").GetContainer(sys.argv[1])
container = bus.get_proxy("org.lockerd1", path)
def show(*_change):
    now = get_native(container.GetAll("org.lockerd1.Container"))
    print(*(f"{key}={now[key]}" for key in shown if key in now), flush=True)
container.PropertiesChanged.connect(show)
show()
EventLoop().run()
