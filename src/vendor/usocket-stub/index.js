// dbus-next loads usocket only when file descriptors are to be passed. lockerd never
// passes any, and the real module would need a compiler on the host.
throw new Error('usocket is left out of lockerd: file descriptors cannot be passed');
