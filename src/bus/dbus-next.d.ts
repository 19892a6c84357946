/** The parts of dbus-next below its public interface, as far as src/bus uses them. */

declare module 'dbus-next/lib/bus.js' {
  import type { EventEmitter } from 'node:events';
  import type { Message } from 'dbus-next';

  interface Connection extends EventEmitter {
    message(message: Message): void;
  }

  export default class MessageBus extends EventEmitter {
    constructor(connection: Connection);
    /** The unique name, null until the bus answered Hello. */
    readonly name: string | null;
    call(message: Message): Promise<Message | null>;
    send(message: Message): void;
    newSerial(): number;
    addMethodHandler(handler: (message: Message) => boolean): void;
  }
}

declare module 'dbus-next/lib/message-type.js' {
  export { Message } from 'dbus-next';
}

declare module 'dbus-next/lib/errors.js' {
  export { DBusError } from 'dbus-next';
}

declare module 'dbus-next/lib/variant.js' {
  export { Variant } from 'dbus-next';
}

declare module 'dbus-next/lib/marshall-compat.js' {
  import type { Message } from 'dbus-next';

  const compat: { marshallMessage(message: Message): [Buffer, unknown[]] };
  export default compat;
}
