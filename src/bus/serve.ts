/**
 * Answers calls. Each one passes, in this order: the quota of calls without an answer, the question
 * whose it is, the replies that its user has left unread, its user's pace, its user's turn, the
 * decoding of its arguments, the method's handler, and its user's turn to be answered.
 */

import { CallQuota, defaultLimits, type CallLimits, type Presence } from './call-quota.ts';
import { Backlog } from './backlog.ts';
import type { CallFrame, ServiceConnection } from './connection.ts';
import { messageFlag } from './frame.ts';
import { RoundRobin } from './event-loop.ts';
import type { Call, CompiledMethod, Interface } from './interface-table.ts';
import { unmarshal, UnmarshalError } from './unmarshal.ts';
import { ObjectTree } from './object-tree.ts';
import { MethodLookup } from './standard-interfaces.ts';
import { busDriver, isInterfaceName } from './valid-names.ts';
import { busError, DBusError } from './values.ts';

/** Takes what a call has cost beyond its expected cost; a negative difference gives back. */
export type Settle = (difference: number) => void;

export interface ServeOptions {
  /** The objects that are there from the start, by path. */
  readonly objects: Readonly<Record<string, readonly Interface[]>>;
  /**
   * Whose a caller is, by its unique name: users take turns, and may leave only so many replies
   * unread. Throws a DBusError to refuse. Without it each caller is a user of its own.
   */
  readonly userOf?: (sender: string) => Promise<number>;
  /**
   * Looks at the pace of a user before each call, also of what D-Bus itself defines and of what is
   * not there: throws a DBusError to refuse. A short call with a short answer costs 1. Without it
   * any pace is allowed.
   */
  readonly admit?: (user: number, cost: number) => Settle;
  /** Called for each call that was answered or refused, with the error, for a log. */
  readonly answered?: (frame: CallFrame, error?: unknown) => void;
  /** Called for each connection that leaves the bus. */
  readonly left?: (sender: string) => void;
  /** Path of the object that gets the interface ObjectManager, for all objects below it. */
  readonly objectManager?: string;
  readonly limits?: Partial<CallLimits>;
}

/** Bytes of a call's body that cost as much as a call: decoding them takes as long. */
const callBytesPerCost = 2 ** 10;
/** The same of what was too long and passed over. */
const passedBytesPerCost = 2 ** 16;
/** The same of an answer. */
const answerBytesPerCost = 2 ** 14;

/** Values in the arguments of one call; the options of a method are some eight. */
const maximumValues = 1024;

/**
 * How much may wait to be sent before the next answer is made. The bus takes 2 KiB at a time from
 * each of its connections, so that one user's large answers would delay those of the others.
 */
const maximumAhead = 2 ** 16;

/** What a caller learns about a fault of ours; the log has the rest. */
const internalError = new DBusError(
  'org.lockerd1.Error.Failed',
  'an internal error occurred; see: journalctl -u lockerd',
);

/** Error texts are for people. */
const maximumErrorLength = 1024;

/** An error as it may leave the process. */
function presentable(error: DBusError): DBusError {
  const text = error.message.replaceAll('\0', '\ufffd');
  const message =
    text.length > maximumErrorLength ? `${text.slice(0, maximumErrorLength)}...` : text;
  if (!isInterfaceName(error.errorName)) return internalError;
  return message === error.message ? error : new DBusError(error.errorName, message);
}

class Server {
  readonly tree: ObjectTree;
  readonly #connection: ServiceConnection;
  readonly #options: ServeOptions;
  readonly #lookup: MethodLookup;
  readonly #quota: CallQuota;
  readonly #backlog: Backlog;
  /** Whose call is handled next. */
  readonly #handling = new RoundRobin<unknown>();
  /** Whose call is answered next while the bus is slow to take answers. */
  readonly #answering: RoundRobin<unknown>;
  /** How long the last answer of a method was, in bytes: the next one will cost as much. */
  readonly #answerBytes = new WeakMap<CompiledMethod, number>();

  constructor(connection: ServiceConnection, options: ServeOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#quota = new CallQuota({ ...defaultLimits, ...options.limits });
    this.#backlog = new Backlog(connection);
    this.#answering = new RoundRobin(() =>
      connection.unsentBytes < maximumAhead ? undefined : connection.untilSent(maximumAhead),
    );
    this.tree = new ObjectTree(connection, options.objectManager);
    this.#lookup = new MethodLookup(this.tree, options.objectManager);
  }

  async start(): Promise<void> {
    await this.#connection.subscribe(
      {
        sender: busDriver.destination,
        path: busDriver.path,
        interface: busDriver.interface,
        member: 'NameOwnerChanged',
      },
      ({ body: [name, , owner] }) => {
        if (owner !== '' || typeof name !== 'string') return;
        this.#quota.gone(name);
        this.#backlog.gone(name);
        this.#options.left?.(name);
      },
    );
    void this.#connection.lost.then(() => {
      this.#quota.allGone();
    });
    this.#connection.handleCalls((call) => void this.#handle(call));
    this.tree.announce();
  }

  /** Never rejects. */
  async #handle(frame: CallFrame): Promise<void> {
    const { sender } = frame;
    if (sender === undefined) return;
    const presence = this.#quota.enter(sender);
    if (presence === undefined) {
      const text = 'too many of your calls have no answer yet; wait for some of them';
      await this.#answerError(frame, new DBusError(busError.limitsExceeded, text));
      return;
    }
    try {
      const { userOf, admit } = this.#options;
      const user = await userOf?.(sender);
      if (hasLeft(presence)) return;
      this.#backlog.belongs(sender, user ?? sender);
      // Not in any case: it would make every answer wait for the next turn of the event loop.
      if (this.#backlog.isSuspicious(sender) && (await this.#backlog.isFull(sender)))
        throw unreadReplies();
      const expected = this.#expectedCost(frame);
      const settle = user === undefined ? undefined : admit?.(user, expected);
      const turn = this.#handling.next(user ?? sender);
      if (turn !== undefined) await turn;
      // Before the object that is called may be gone as well.
      if (hasLeft(presence)) return;
      if (frame.isHeaderTooLong)
        throw new DBusError(busError.limitsExceeded, 'the header of the call is too long');
      const { entry, declaration } = this.#lookup.find(frame);
      const call: Call = {
        sender,
        path: frame.path,
        interface: entry.name,
        member: frame.member,
        interactive: (frame.flags & messageFlag.allowInteractiveAuthorization) !== 0,
        get signal() {
          return presence.signal;
        },
      };
      const args = decodedArguments(frame, entry.name, declaration);
      const answered = declaration.handler(call, args as never);
      const values = answered instanceof Promise ? ((await answered) as unknown) : answered;
      if (this.#connection.unsentBytes >= maximumAhead || this.#answering.isWaitedFor)
        await this.#answering.next(user ?? sender);
      // It would not be read, and the bus would not report it as unread.
      if (hasLeft(presence)) return;
      if (!this.#backlog.takesAnswers(sender)) throw unreadReplies();
      const reply = (values ?? []) as readonly unknown[];
      const bytes = this.#connection.reply(frame, declaration.outSignature, reply);
      this.#backlog.sent(sender, bytes);
      // Nothing was sent to a caller that wanted no answer.
      if (bytes > 0) this.#answerBytes.set(declaration, bytes);
      settle?.(callCost(frame, bytes) - expected);
      this.#options.answered?.(frame);
    } catch (error) {
      this.#options.answered?.(frame, error);
      await this.#answerError(frame, error, presence);
    } finally {
      this.#quota.leave(sender);
    }
  }

  #expectedCost(frame: CallFrame): number {
    try {
      return callCost(frame, this.#answerBytes.get(this.#lookup.find(frame).declaration) ?? 0);
    } catch {
      return callCost(frame, 0);
    }
  }

  /** Never rejects. A caller that does not read gets its error when it has read. */
  async #answerError(call: CallFrame, error: unknown, presence?: Presence): Promise<void> {
    // It may be kept for a while, its body is of no more use.
    const frame = { ...call, body: undefined };
    const { interface: interfaceName = '', member, path, sender = '' } = frame;
    if (this.#backlog.isOverflowing(sender)) {
      if ((frame.flags & messageFlag.noReplyExpected) !== 0) return;
      if (!(await this.#backlog.untilRead(sender))) return;
    }
    if (presence?.hasLeft === true) return;
    if (!(error instanceof DBusError))
      this.#connection.log(`${interfaceName}.${member} of ${path}`, error);
    try {
      const answer = error instanceof DBusError ? presentable(error) : internalError;
      this.#backlog.sent(sender, this.#connection.replyError(frame, answer));
    } catch (problem) {
      this.#connection.log(`answering ${interfaceName}.${member} of ${path}`, problem);
    }
  }
}

/** What a call costs with an answer of so many bytes. */
function callCost({ body, bodyBytes }: CallFrame, answerBytes: number): number {
  const bytesPerCost = body === undefined ? passedBytesPerCost : callBytesPerCost;
  return 1 + Math.floor(bodyBytes / bytesPerCost) + Math.floor(answerBytes / answerBytesPerCost);
}

/** A function, for what is asked again after an await is not known to be false. */
function hasLeft(presence: Presence): boolean {
  return presence.hasLeft;
}

function unreadReplies(): DBusError {
  return new DBusError(busError.limitsExceeded, 'read the replies to your earlier calls first');
}

/** @throws DBusError when the arguments are not what the method takes */
function decodedArguments(
  { signature, body, bigEndian, member }: CallFrame,
  interfaceName: string,
  { inSignature, checkEntry }: CompiledMethod,
): unknown[] {
  const name = `${interfaceName}.${member}`;
  if (signature !== inSignature) {
    const text = `${name} takes arguments of the types "${inSignature}", not "${signature}"`;
    throw new DBusError(busError.invalidArgs, text);
  }
  if (body === undefined)
    throw new DBusError(busError.limitsExceeded, `the arguments of ${name} are too long`);
  try {
    return unmarshal(signature, body, bigEndian, { values: maximumValues, checkEntry });
  } catch (error) {
    if (!(error instanceof UnmarshalError)) throw error;
    throw new DBusError(busError.invalidArgs, `the arguments of ${name}: ${error.message}`);
  }
}

/**
 * Serves objects: from now on calls are answered and signals sent. The service's
 * name is still to be requested.
 * @returns the objects, to change them
 */
export async function serve(
  connection: ServiceConnection,
  options: ServeOptions,
): Promise<ObjectTree> {
  const server = new Server(connection, options);
  for (const [path, interfaces] of Object.entries(options.objects))
    server.tree.add(path, interfaces);
  await server.start();
  return server.tree;
}
