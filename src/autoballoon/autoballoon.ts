/**
 * Moves MemoryHigh= of containers between their floors and ceilings, so that who needs memory has it.
 * Nothing is done but in answer to an event: a container's or the host's memory pressure, a unit that
 * has changed, a daemon-reload.
 *
 * An event only notes what is to be done. One loop does it, one thing after the other, in this order:
 *
 *   settings may have changed   #read()      which containers there are
 *   units may have changed      #look()      new ones get a share, changed ones another
 *   containers are pressed      grow()       they get more, which others may have to give
 *   the host is pressed         relieve()    who holds idle memory gives it
 *
 * policy.ts decides who gives and gets how much, redistribution.ts carries it out, shares.ts keeps the
 * shares, and high.ts and kernel-memory.ts are the outside.
 */
import { join } from 'node:path';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import type { AutoballoonPorts } from './autoballoon-ports.ts';
import type { UnitFigures } from './kernel-memory.ts';
import type { Setting } from './managed-container.ts';
import { ManagedContainer } from './managed-container.ts';
import type { Range } from './policy.ts';
import { Redistribution } from './redistribution.ts';
import { Shares } from './shares.ts';

/** Some process of the group waited for memory for a tenth of a second within one second. */
const trigger = 'some 100000 1000000';

export class Autoballoon {
  /** Settles when no container has the setting any more; rejects when it cannot go on. */
  readonly ended: Promise<void>;
  readonly #ports: AutoballoonPorts;
  /** All that have the setting, by name. */
  readonly #containers = new Map<string, ManagedContainer>();
  readonly #shares: Shares;
  readonly #redistribution: Redistribution;
  readonly #pressed = new Set<ManagedContainer>();
  #end: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  #mustRead = true;
  #mustLook = false;
  #hostPressed = false;
  #isRunning = false;
  #willLook = false;

  constructor(ports: AutoballoonPorts) {
    this.#ports = ports;
    const lookAfter = this.#lookAfter.bind(this);
    this.#shares = new Shares(ports, this.#containers, lookAfter);
    this.#redistribution = new Redistribution(ports, this.#containers, this.#shares, lookAfter);
    this.ended = new Promise((resolve, reject) => {
      this.#end = resolve;
      this.#fail = reject;
    });
  }

  start(): void {
    this.#ports.units.onReloaded(() => {
      this.#mustRead = true;
      this.#wake();
    });
    this.#ports.pressure.watch('/proc/pressure/memory', trigger, {
      fired: () => {
        this.#hostPressed = true;
        this.#wake();
      },
      gone: (why) => {
        this.#fail(new Error(`the pressure of the host cannot be watched: ${why}`));
      },
    });
    this.#wake();
  }

  /** One thing after the other; what comes meanwhile is done after it. */
  #wake(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#runPending()
      .catch((error: unknown) => {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      })
      .finally(() => {
        this.#isRunning = false;
        if (this.#isPending) this.#wake();
      });
  }

  get #isPending(): boolean {
    return this.#mustRead || this.#mustLook || this.#pressed.size > 0 || this.#hostPressed;
  }

  async #runPending(): Promise<void> {
    for (;;) {
      if (this.#mustRead) {
        this.#mustRead = false;
        await this.#read();
      } else if (this.#mustLook) {
        this.#mustLook = false;
        await this.#look();
      } else if (this.#pressed.size > 0) {
        const pressed = [...this.#pressed];
        this.#pressed.clear();
        for (const container of pressed) await this.#redistribution.grow(container);
        await this.#shares.settle();
      } else if (this.#hostPressed) {
        this.#hostPressed = false;
        await this.#redistribution.relieve();
        await this.#shares.settle();
      } else {
        return;
      }
    }
  }

  /** Looks later, for what cannot be done now. */
  #lookAfter(ms: number): void {
    if (this.#willLook) return;
    this.#willLook = true;
    setTimeout(() => {
      this.#willLook = false;
      this.#mustLook = true;
      this.#wake();
    }, ms);
  }

  /** Learns which containers have the setting, and lets go of those that have it no more. */
  async #read(): Promise<void> {
    const settings = new Map<string, Setting & { readonly autoballoon: Range }>();
    for (const setting of await this.#ports.settings()) {
      const { autoballoon } = setting;
      if (autoballoon !== undefined) settings.set(setting.name, { ...setting, autoballoon });
    }
    const gone = [...this.#containers.values()].filter(({ name }) => !settings.has(name));
    for (const container of gone) this.#drop(container);
    const taken = gone.filter(({ share }) => share !== undefined);
    if (taken.length > 0) await this.#ports.high.takeOff(taken.map(({ unit }) => unit));
    for (const [name, setting] of settings) {
      const known = this.#containers.get(name);
      if (known !== undefined) known.setting = setting.autoballoon;
      else this.#add(new ManagedContainer(setting, setting.autoballoon));
    }
    // Who runs already is known before anything is divided.
    for (const { unwatch } of this.#containers.values()) await unwatch;
    this.#mustLook = true;
    if (settings.size === 0) this.#end();
  }

  #add(container: ManagedContainer): void {
    this.#containers.set(container.name, container);
    container.unwatch = this.#ports.units.watch(container.unit, (status) => {
      container.status = status;
      this.#mustLook = true;
      this.#wake();
    });
    container.unwatch.catch((error: unknown) => {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    });
  }

  #drop(container: ManagedContainer): void {
    this.#containers.delete(container.name);
    this.#pressed.delete(container);
    container.unwatchPressure?.();
    void container.unwatch?.then((unwatch) => unwatch());
  }

  /** Follows units that have started and stopped and limits that have changed. */
  async #look(): Promise<void> {
    for (const container of this.#containers.values()) {
      this.#follow(container);
      if (!container.isBlind || container.share === undefined) continue;
      container.share = undefined;
      await this.#ports.high.takeOff([container.unit]);
    }
    const newcomers: { container: ManagedContainer; figures: UnitFigures }[] = [];
    for (const container of this.#containers.values()) {
      const figures = this.#shares.figuresOf(container);
      if (figures === undefined) continue;
      // Somebody else has written memory.high, so that a new share is worked out.
      if (figures.high !== container.share) container.share = undefined;
      if (container.share === undefined) newcomers.push({ container, figures });
      else await this.#redistribution.fit(container, figures);
    }
    const running = this.#shares.all().length + newcomers.length;
    for (const { container, figures } of newcomers) {
      await this.#redistribution.takeOn(container, figures, running);
    }
    await this.#redistribution.takeExcess();
    await this.#shares.settle();
  }

  /** Watches the pressure of a run of the unit that has begun, and forgets one that has ended. */
  #follow(container: ManagedContainer): void {
    const { status, controlGroup } = container;
    const run = controlGroup === '' ? '' : `${controlGroup} ${status?.stateChangeUsec ?? 0n}`;
    if (run === container.run) return;
    container.run = run;
    container.unwatchPressure?.();
    container.unwatchPressure = undefined;
    container.isBlind = false;
    container.share = undefined;
    // Memory may have become free.
    for (const { refused } of this.#containers.values()) refused.reset();
    if (run === '') return;
    const file = join(cgroupRoot, controlGroup, 'memory.pressure');
    container.unwatchPressure = this.#ports.pressure.watch(file, trigger, {
      fired: () => {
        container.pressedAtMs = this.#ports.nowMs();
        this.#pressed.add(container);
        this.#wake();
      },
      gone: (why) => {
        // Of a container's end its unit tells.
        if (this.#ports.memory.unit(container.controlGroup) === undefined) return;
        container.isBlind = true;
        const text = `is left alone: its memory pressure cannot be watched: ${why}`;
        this.#shares.report(container, 4, text);
        this.#mustLook = true;
        this.#wake();
      },
    });
  }
}
