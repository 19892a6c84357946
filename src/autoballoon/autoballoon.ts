/**
 * Moves MemoryHigh= of containers between their floors and ceilings, so that memory goes where it is
 * needed. It acts only on events: memory pressure of a container or the host, a change of a unit, a
 * daemon-reload.
 *
 * An event only notes what has to be done. One loop does the work, one step at a time, in this order:
 *
 *   settings may have changed   #read()      learns which containers there are
 *   units may have changed      #look()      gives new containers a share, and adjusts changed ones
 *   containers are pressed      grow()       gives them more, which others may have to give up
 *   the host is pressed         relieve()    reclaims from containers that hold idle memory
 *
 * policy.ts decides who gives and who gets how much, redistribution.ts carries that out, and shares.ts
 * keeps the shares. high.ts and kernel-memory.ts connect to systemd and the kernel.
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

/** Fires when processes of the group waited for memory for 100 ms within one second. */
const trigger = 'some 100000 1000000';

export class Autoballoon {
  /** Resolves when no container has the setting any more; rejects when the program cannot go on. */
  readonly ended: Promise<void>;
  readonly #ports: AutoballoonPorts;
  /** All containers that have the setting, by name. */
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

  /** Starts the loop unless it is running; a running loop also does the work that comes meanwhile. */
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

  /** Looks again after `ms`, for work that cannot be done now. */
  #lookAfter(ms: number): void {
    if (this.#willLook) return;
    this.#willLook = true;
    setTimeout(() => {
      this.#willLook = false;
      this.#mustLook = true;
      this.#wake();
    }, ms);
  }

  /** Learns which containers have the setting, and drops those that no longer have it. */
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
    // Learn which containers run already before memory is divided.
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

  /** Reacts to units that have started or stopped and to limits that have changed. */
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
      // Somebody else has written memory.high, so work out a new share.
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

  /** Watches the pressure of a new run of the unit, and forgets a run that has ended. */
  #follow(container: ManagedContainer): void {
    const { status, controlGroup } = container;
    const run = controlGroup === '' ? '' : `${controlGroup} ${status?.stateChangeUsec ?? 0n}`;
    if (run === container.run) return;
    container.run = run;
    container.unwatchPressure?.();
    container.unwatchPressure = undefined;
    container.isBlind = false;
    container.share = undefined;
    // Memory may have become free, so refused containers may try again.
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
        // If the container has ended, its unit reports that.
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
