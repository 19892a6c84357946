/** What system-quickjs.ts uses of QuickJS's own modules `std` and `os`. */
declare module 'quickjs:std' {
  interface File {
    puts(text: string): void;
    flush(): number;
    error(): boolean;
    seek(offset: number, whence: number): number;
    close(): number;
    readAsString(maxBytes?: number): string;
    read(buffer: ArrayBuffer, position: number, length: number): number;
  }
  interface ErrorResult {
    errno?: number;
  }
  export const out: File;
  export const err: File;
  export function fdopen(fd: number, flags: 'r' | 'w', result: ErrorResult): File | null;
  export function exit(status: number): never;
  export function getenviron(): Record<string, string>;
}

declare module 'quickjs:os' {
  export const WNOHANG: number;
  export function open(path: string, flags: number, mode?: number): number;
  export function close(fd: number): number;
  export function seek(fd: number, offset: number, whence: number): number;
  export function read(fd: number, buffer: ArrayBuffer, position: number, length: number): number;
  export function write(fd: number, buffer: ArrayBuffer, position: number, length: number): number;
  export function mkdir(path: string, mode: number): number;
  export function symlink(target: string, path: string): number;
  export function remove(path: string): number;
  export function pipe(): [number, number] | null;
  export function exec(
    command: string[],
    options: {
      block?: boolean;
      usePath?: boolean;
      stdin?: number;
      stdout?: number;
      stderr?: number;
      env?: Record<string, string>;
    },
  ): number;
  export function waitpid(pid: number, options: number): [number, number];
  export function kill(pid: number, signal: number): number;
  export function sleep(milliseconds: number): void;
  export function now(): number;
}

/** Arguments of a program that qjsc compiled, its own name first. */
declare const scriptArgs: readonly string[];

/** The processor that the program is compiled for, as Debian names it. */
declare const LOCKERD_ARCHITECTURE: string;

/** Names in a directory, or an errno; QuickJS's own function loses bytes. */
declare function directoryNames(path: string): string[] | number;

/** As in system-calls.ts, which a file without imports cannot name. */
interface StatusOfFile {
  readonly mode: number;
  readonly size: number;
  readonly dev: number;
  readonly ino: number;
  readonly rdev: number;
}

/** What stat(2), or lstat(2), tells; or an errno. */
declare function fileStatus(path: string, isFollowed: boolean): StatusOfFile | number;

/**
 * A regular file's text, or its bytes as characters; without either where these are more than
 * `most`. The status of anything else, or an errno.
 */
declare function fileContent(
  path: string,
  flags: number,
  most: number,
  isText: boolean,
):
  | { readonly bytes: number; readonly text: string; readonly isPlain: boolean }
  | { readonly bytes: number }
  | StatusOfFile
  | number;

/** Where a symbolic link leads; or an errno. */
declare function linkTarget(path: string): string | number;

/** Makes a file; answers 0 or an errno, and then leaves none. */
declare function newFile(path: string, text: string): number;

/** The functions of model/plain-text.ts. */
declare function plainWord(text: string): boolean;
declare function plainLine(text: string): boolean;
declare function plainInstance(name: string): boolean;
declare function escapedPlainPath(path: string): string | undefined;
