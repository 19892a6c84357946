/** polkit, which decides about each call. Whatever is not a sound answer of polkit is not a yes. */

import type { BusConnection } from '../bus/connection.ts';
import { busDriver } from '../bus/valid-names.ts';
import { busError, DBusError, Variant } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';
import type { AuthorityPort, AuthorizationRequest, Decision } from '../core/ports.ts';

const polkit = {
  destination: 'org.freedesktop.PolicyKit1',
  path: '/org/freedesktop/PolicyKit1/Authority',
  interface: 'org.freedesktop.PolicyKit1.Authority',
} as const;

/** CheckAuthorizationFlags: polkit may ask somebody for a password. */
const allowUserInteraction = 1;

interface Timeouts {
  /** How long a check without a prompt may take. polkit's rules may run programs. */
  readonly checkMs: number;
  /** How long a password prompt may stay open. */
  readonly promptMs: number;
  /** How often polkit is asked during a prompt whether it is still there, and how long it has. */
  readonly pingMs: number;
  /** How soon after a change of permissions the next one is told. */
  readonly changesMs: number;
}

const defaultTimeouts: Timeouts = {
  checkMs: 20_000,
  promptMs: 300_000,
  pingMs: 10_000,
  changesMs: 1_000,
};

const available = 'polkit';
/** More prompts at once would take the places of all other calls to polkit. */
const promptsMax = 40;

export class PolkitAuthority implements AuthorityPort {
  readonly #bus: BusConnection;
  readonly #timeouts: Timeouts;
  readonly #stateHandlers = new Set<() => void>();
  readonly #permissionHandlers = new Set<() => void>();
  #state = 'polkit is not running';
  #checks = 0;
  #prompts = 0;
  /** Until it is due, a change is told later. */
  #changeTimer: NodeJS.Timeout | undefined;
  #isChangeUntold = false;

  private constructor(connection: BusConnection, timeouts: Timeouts) {
    this.#bus = connection;
    this.#timeouts = timeouts;
  }

  /** Also when there is no polkit, which may come later. */
  static async connect(
    connection: BusConnection,
    timeouts: Partial<Timeouts> = {},
  ): Promise<PolkitAuthority> {
    const authority = new PolkitAuthority(connection, { ...defaultTimeouts, ...timeouts });
    const { destination: sender, path, interface: polkitInterface } = polkit;
    await connection.subscribe(
      { sender, path, interface: polkitInterface, member: 'Changed' },
      () => {
        authority.#permissionsChanged();
      },
    );
    await connection.subscribe(
      {
        sender: busDriver.destination,
        interface: busDriver.interface,
        member: 'NameOwnerChanged',
        arg0: polkit.destination,
      },
      ({ body }) => {
        authority.#setState(body[2] === '' ? 'polkit is not running' : available);
        if (body[2] !== '') authority.#permissionsChanged();
      },
    );
    await authority.#start();
    return authority;
  }

  get state(): string {
    return this.#state;
  }

  onStateChanged(handler: () => void): void {
    this.#stateHandlers.add(handler);
  }

  onPermissionsChanged(handler: () => void): void {
    this.#permissionHandlers.add(handler);
  }

  #setState(state: string): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const handler of this.#stateHandlers) handler();
  }

  /** At once, and what follows soon together: polkit tells of each machine and each session that comes or goes. */
  #permissionsChanged(): void {
    this.#isChangeUntold = true;
    if (this.#changeTimer !== undefined) return;
    this.#tellOfChange();
  }

  #tellOfChange(): void {
    this.#changeTimer = undefined;
    if (!this.#isChangeUntold) return;
    this.#isChangeUntold = false;
    this.#changeTimer = setTimeout(() => {
      this.#tellOfChange();
    }, this.#timeouts.changesMs).unref();
    for (const handler of this.#permissionHandlers) handler();
  }

  /** polkit is started by the bus when somebody calls it; the state should be known before. */
  async #start(): Promise<void> {
    try {
      await this.#bus.call({
        ...busDriver,
        member: 'StartServiceByName',
        signature: 'su',
        body: [polkit.destination, 0],
        timeoutMs: this.#timeouts.checkMs,
      });
      this.#setState(available);
    } catch (error) {
      const isAbsent =
        error instanceof DBusError &&
        error.errorName === 'org.freedesktop.DBus.Error.ServiceUnknown';
      this.#setState(isAbsent ? 'polkit is not installed' : 'polkit cannot be started');
    }
  }

  async check(request: AuthorizationRequest): Promise<Decision> {
    const { signal } = request;
    if (signal.aborted) throw callerLeft();
    if (request.interactive && this.#prompts >= promptsMax) {
      throw new LockerdError(
        'LimitsExceeded',
        'too many calls wait for a password; answer the prompts or try again later',
      );
    }
    const cancellationId = `lockerd-${++this.#checks}`;
    if (request.interactive) this.#prompts++;
    // Once for all that may happen first: the answer, the caller leaving, polkit hanging.
    const settled = new AbortController();
    try {
      const answer = await Promise.race([
        this.#ask(request, cancellationId),
        aborted(signal, settled.signal).then(() => {
          throw callerLeft();
        }),
        ...(request.interactive ? [this.#untilSilent(settled.signal)] : []),
      ]);
      if (isAborted(signal)) throw callerLeft();
      this.#setState(available);
      return answer;
    } catch (error) {
      // polkit would go on showing its prompt, of which there is no use.
      this.#cancel(cancellationId);
      if (isAborted(signal)) throw callerLeft();
      if (error instanceof PromptTimeout) return 'dismissed';
      throw this.#unavailable(error);
    } finally {
      settled.abort();
      if (request.interactive) this.#prompts--;
    }
  }

  async #ask(request: AuthorizationRequest, cancellationId: string): Promise<Decision> {
    const { checkMs, promptMs } = this.#timeouts;
    try {
      const body = await this.#bus.call({
        ...polkit,
        member: 'CheckAuthorization',
        signature: '(sa{sv})sa{ss}us',
        body: [
          ['system-bus-name', { name: new Variant('s', request.sender) }],
          request.action,
          { ...request.details },
          request.interactive ? allowUserInteraction : 0,
          cancellationId,
        ],
        timeoutMs: request.interactive ? promptMs : checkMs,
      });
      return decide(body[0]);
    } catch (error) {
      if (request.interactive && isNoReply(error)) throw new PromptTimeout();
      throw error;
    }
  }

  /** Rejects when polkit does not even answer a ping: a prompt alone may take its time. */
  async #untilSilent(settled: AbortSignal): Promise<never> {
    const { pingMs } = this.#timeouts;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, pingMs).unref());
      if (settled.aborted) return new Promise(() => undefined);
      await this.#bus.call({
        ...polkit,
        interface: 'org.freedesktop.DBus.Peer',
        member: 'Ping',
        timeoutMs: pingMs,
      });
    }
  }

  #cancel(cancellationId: string): void {
    this.#bus
      .call({
        ...polkit,
        member: 'CancelCheckAuthorization',
        signature: 's',
        body: [cancellationId],
        timeoutMs: this.#timeouts.checkMs,
      })
      // The check is over already, or polkit is gone with all its prompts.
      .catch(() => undefined);
  }

  #unavailable(cause: unknown): LockerdError {
    if (isNoReply(cause)) {
      this.#setState('polkit does not answer');
      return new LockerdError(
        'AuthorityUnavailable',
        'polkit does not answer, so nothing is allowed; see "systemctl status polkit"',
        { cause },
      );
    }
    const errorName = cause instanceof DBusError ? cause.errorName : '';
    if (errorName === 'org.freedesktop.DBus.Error.ServiceUnknown') {
      this.#setState('polkit is not installed');
    }
    const why = errorName.startsWith('org.freedesktop.DBus.Error.')
      ? 'polkit cannot be reached, so nothing is allowed; is polkitd installed and running?'
      : 'polkit gave no sound answer, so nothing is allowed; see "journalctl -u polkit"';
    return new LockerdError('AuthorityUnavailable', why, { cause });
  }
}

class PromptTimeout extends Error {
  override readonly name = 'PromptTimeout';
}

function callerLeft(): LockerdError {
  return new LockerdError('Cancelled', 'the caller has left before polkit had decided');
}

/** Settles when the first signal fires, and never after the second. */
function aborted(signal: AbortSignal, settled: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true, signal: settled },
    );
  });
}

/** A function, for what is asked again after an await is not known to be false. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function isNoReply(error: unknown): boolean {
  return error instanceof DBusError && error.errorName === busError.noReply;
}

/** AuthorizationResult of polkit: is authorized, is a challenge, details. */
function decide(result: unknown): Decision {
  const [isAuthorized, isChallenge, details] = Array.isArray(result) ? (result as unknown[]) : [];
  if (
    typeof isAuthorized !== 'boolean' ||
    typeof isChallenge !== 'boolean' ||
    typeof details !== 'object' ||
    details === null ||
    // polkit says one at most.
    (isAuthorized && isChallenge)
  ) {
    throw new Error('the answer of polkit makes no sense');
  }
  if (isAuthorized) return 'yes';
  if (Object.hasOwn(details, 'polkit.dismissed')) return 'dismissed';
  return isChallenge ? 'challenge' : 'no';
}
