/** Replies that their callers have not read. */

import type { BusConnection } from './connection.ts';
import { UnreadBytes } from './unread.ts';

/** A caller is looked at once for so many bytes of replies. */
const lookEvery = 2 ** 20;

/** What one user may leave unread; beyond it each of its connections has only a little. */
const maximumUnread = 2 ** 24;

/** What all users together may leave unread; beyond it each connection has only a little. */
const maximumUnreadOfAll = 2 ** 26;
const smallUnread = 2 ** 16;

/** A user with so much unread, on however many connections, gets no more than refusals. */
const refusalsOnly = 2 ** 25;

/** Refusals are replies too; a caller this far beyond its limit gets them when it has read. */
const roomForRefusals = 2 ** 20;
/** The same where each has only a little: a user may have some hundred connections. */
const smallRoomForRefusals = 2 ** 14;

/** How often all connections of a user are looked at, at most, milliseconds. */
const lookAtUserMs = 1000;

/** How often a caller whose refusals wait is looked at, milliseconds. */
const lookAgainMs = 1000;

interface User {
  /** Bytes of replies to all its connections. */
  unread: number;
  readonly callers: Set<string>;
  look: Promise<void> | undefined;
  lookedMs: number;
}

interface Caller {
  user: User | undefined;
  /** Takes it away from its user. */
  forget: (() => void) | undefined;
  /** Bytes of replies that it may not have read: an upper bound. */
  unread: number;
  /** What of them was unread for sure when it was looked at. */
  seen: number;
  look: Promise<void> | undefined;
  /** Waits until it has read. */
  readonly held: ((isThere: boolean) => void)[];
  timer: NodeJS.Timeout | undefined;
}

/**
 * Replies that their callers do not read. dbus-daemon keeps them, and when it has 127 MiB of one
 * service, all callers together, it stops to read from that service: one caller who never reads
 * would silence it. dbus-broker keeps some 256 MiB of one user's and then disconnects who does not
 * read. Both tell how much they keep, see unread.ts. Where a bus does not tell, what a user may have
 * in a time bounds it, since answers cost by their bytes.
 *
 * Only callers that are on the bus are counted: nothing is sent to others.
 */
export class Backlog {
  readonly #unreadBytes: UnreadBytes;
  readonly #callers = new Map<string, Caller>();
  readonly #users = new Map<unknown, User>();
  #unread = 0;

  constructor(connection: Pick<BusConnection, 'call'>) {
    this.#unreadBytes = new UnreadBytes(connection);
  }

  /** Tells whose a caller is. Only for one that is on the bus. */
  belongs(sender: string, id: unknown): void {
    const caller = this.#caller(sender);
    if (caller.user !== undefined) return;
    const user = this.#users.get(id) ?? {
      unread: 0,
      callers: new Set(),
      look: undefined,
      lookedMs: -lookAtUserMs,
    };
    this.#users.set(id, user);
    user.callers.add(sender);
    user.unread += caller.unread;
    caller.user = user;
    caller.forget = () => {
      user.callers.delete(sender);
      if (user.callers.size === 0) this.#users.delete(id);
    };
  }

  /** Counts a reply of so many bytes. */
  sent(sender: string, bytes: number): void {
    const caller = this.#caller(sender);
    this.#count(caller, bytes);
    if (caller.unread - caller.seen >= lookEvery) void this.#look(sender, caller);
  }

  /** Whether a caller has left too much unread, after a look at it in case of doubt. */
  async isFull(sender: string): Promise<boolean> {
    const caller = this.#callers.get(sender);
    if (caller === undefined || !this.isSuspicious(sender)) return false;
    await this.#look(sender, caller);
    if (this.isSuspicious(sender) && caller.user !== undefined) await this.#lookAtAll(caller.user);
    return this.isSuspicious(sender);
  }

  isSuspicious(sender: string): boolean {
    const caller = this.#callers.get(sender);
    if (caller === undefined) return false;
    return caller.unread >= this.#limit(caller) || hasRefusalsOnly(caller);
  }

  /** Whether an answer may be sent now that is more than a refusal. */
  takesAnswers(sender: string): boolean {
    const caller = this.#callers.get(sender);
    return caller === undefined || !(hasRefusalsOnly(caller) || this.isOverflowing(sender));
  }

  /** Whether not even a refusal is to be sent now. */
  isOverflowing(sender: string): boolean {
    const caller = this.#callers.get(sender);
    if (caller === undefined) return false;
    const limit = this.#limit(caller);
    const room = limit === smallUnread ? smallRoomForRefusals : roomForRefusals;
    return caller.unread >= limit + room;
  }

  /** Settles when refusals can be sent again, or with false when the caller has left. */
  untilRead(sender: string): Promise<boolean> {
    const caller = this.#caller(sender);
    return new Promise((resolve) => {
      caller.held.push(resolve);
      this.#lookAgain(sender, caller);
    });
  }

  gone(sender: string): void {
    const caller = this.#callers.get(sender);
    if (caller === undefined) return;
    clearTimeout(caller.timer);
    this.#count(caller, -caller.unread);
    caller.forget?.();
    this.#callers.delete(sender);
    for (const send of caller.held) send(false);
  }

  #caller(sender: string): Caller {
    let caller = this.#callers.get(sender);
    if (caller === undefined) {
      caller = {
        user: undefined,
        forget: undefined,
        unread: 0,
        seen: 0,
        look: undefined,
        held: [],
        timer: undefined,
      };
      this.#callers.set(sender, caller);
    }
    return caller;
  }

  #lookAgain(sender: string, caller: Caller): void {
    caller.timer ??= setTimeout(() => {
      void this.#look(sender, caller).then(() => {
        caller.timer = undefined;
        if (this.#callers.get(sender) !== caller) return;
        if (!this.isOverflowing(sender)) for (const send of caller.held.splice(0)) send(true);
        else this.#lookAgain(sender, caller);
      });
    }, lookAgainMs).unref();
  }

  #count(caller: Caller, bytes: number): void {
    caller.unread += bytes;
    this.#unread += bytes;
    if (caller.user !== undefined) caller.user.unread += bytes;
  }

  #limit({ user }: Caller): number {
    const isMuch = this.#unread >= maximumUnreadOfAll || (user?.unread ?? 0) >= maximumUnread;
    return isMuch ? smallUnread : maximumUnread;
  }

  /** Callers who read must not pay for those of the same user who do not. */
  #lookAtAll(user: User): Promise<void> {
    if (performance.now() - user.lookedMs < lookAtUserMs) return user.look ?? Promise.resolve();
    user.lookedMs = performance.now();
    const looks = [...user.callers].flatMap((sender) => {
      const caller = this.#callers.get(sender);
      return caller === undefined || caller.unread === 0 ? [] : [this.#look(sender, caller)];
    });
    user.look = Promise.all(looks)
      .then(() => undefined)
      .finally(() => (user.look = undefined));
    return user.look;
  }

  #look(sender: string, caller: Caller): Promise<void> {
    const asked = caller.unread;
    caller.look ??= this.#unreadBytes
      .of(sender)
      .then((unread) => {
        if (this.#callers.get(sender) !== caller) return;
        // What was sent since the question is counted again.
        this.#count(caller, unread - asked);
        caller.seen = unread;
      })
      .finally(() => (caller.look = undefined));
    return caller.look;
  }
}

function hasRefusalsOnly({ user }: Caller): boolean {
  return user !== undefined && user.unread >= refusalsOnly;
}
