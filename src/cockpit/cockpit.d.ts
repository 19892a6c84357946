/**
 * What the page uses of Cockpit's base1/cockpit.js, which the browser loads before it and which has no
 * types in the oldest release that we support. Cockpit's guide documents it.
 */
declare namespace cockpit {
  interface Events<Listener> {
    addEventListener(name: string, listener: Listener): void;
    removeEventListener(name: string, listener: Listener): void;
  }

  /** An error of a call or a program. `problem` is Cockpit's, `name` that of D-Bus. */
  interface Failure {
    readonly problem?: string | null;
    readonly name?: string;
    readonly message: string;
    readonly exit_status?: number | null;
  }

  type SignalListener = (
    path: string,
    interfaceName: string,
    signal: string,
    args: readonly unknown[],
  ) => void;

  /** An interface of an object, whose properties are its own. */
  interface DBusProxy extends Events<() => void> {
    readonly [property: string]: unknown;
    /** Calls back when its properties are known, or cannot be. */
    wait(done: () => void): void;
  }

  interface DBusClient extends Events<(event: unknown, detail: never) => void> {
    call(
      path: string,
      interfaceName: string,
      method: string,
      args: readonly unknown[],
      options?: { readonly type?: string; readonly timeout?: number },
    ): Promise<unknown[]>;
    subscribe(match: object, listener: SignalListener): { remove(): void };
    proxy(interfaceName: string, path: string): DBusProxy;
    close(problem?: string): void;
  }

  interface Process extends Promise<string> {
    close(problem?: string): void;
    stream(listener: (text: string) => void): Process;
  }

  interface Channel {
    addEventListener(name: 'message', listener: (event: unknown, text: string) => void): void;
    addEventListener(
      name: 'close',
      listener: (event: unknown, detail: { readonly problem?: string | null }) => void,
    ): void;
    removeEventListener(name: string, listener: (event: unknown, detail: never) => void): void;
    send(text: string): void;
    control(options: object): void;
    close(problem?: string): void;
  }

  interface Location {
    readonly path: readonly string[];
    go(path: readonly string[]): void;
  }

  interface File {
    read(): Promise<string | null>;
    close(): void;
  }
}

declare const cockpit: cockpit.Events<() => void> & {
  readonly location: cockpit.Location;
  readonly hidden: boolean;
  dbus(name: string | null, options: object): cockpit.DBusClient;
  spawn(args: readonly string[], options: object): cockpit.Process;
  channel(options: object): cockpit.Channel;
  file(path: string, options?: object): cockpit.File;
  jump(path: string): void;
};
