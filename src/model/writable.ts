/**
 * What is read-only for everybody else, while it is put together field by field: to spread one object
 * into another takes the compiled generator several times as long.
 */
export type Writable<T> = { -readonly [K in keyof T]: T[K] };
