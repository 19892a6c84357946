import { join } from 'node:path';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import { formatLimit, mebibyte, unlimited, wholePages } from '../model/memory-limit.ts';
import { codeOf } from '../model/errno.ts';
import { messageIds } from '../core/message-ids.ts';
import type { JournalPort, UnitsPort, UnitStatus, Unwatch } from '../core/ports.ts';
import type { HighLimits } from './high.ts';
import type { Memory, UnitFigures } from './kernel-memory.ts';
import type { Gift, Member, Range, Shortage } from './policy.ts';
import {
  excessOf,
  fittedShare,
  firstShare,
  giftsFor,
  grain,
  grownShare,
  isNear,
  marginOf,
  rangeWithin,
  roomFor,
  shortageFor,
  stepOf,
} from './policy.ts';
import type { Pressure } from './pressure.ts';

export interface Setting {
  readonly name: string;
  readonly unit: string;
  readonly autoballoon: Range | undefined;
}

export interface AutoballoonPorts {
  readonly settings: () => Promise<readonly Setting[]>;
  readonly units: Pick<UnitsPort, 'watch' | 'onReloaded'>;
  readonly memory: Memory;
  readonly high: HighLimits;
  readonly pressure: Pressure;
  readonly journal: JournalPort;
  /** Milliseconds, from an arbitrary start. */
  readonly nowMs: () => number;
}

/** Some process of the group waited for memory for a tenth of a second within one second. */
const trigger = 'some 100000 1000000';
/** No container's share is changed more often. */
const changeEveryMs = 1000;
/** Who has waited for memory in this time is asked for none, not even for what it does not use. */
const calmAfterMs = 3000;
/** Who has in this time is asked for nothing that it holds. */
const idleAfterMs = 10_000;
/** Who needs still more within this time gets twice as much. */
const inARowMs = 5000;
/** Where there was nothing to get, one asks again after this time, then after twice of it, ... */
const refusedMs = 1000;
const refusedMaxMs = 10_000;
const balloonRetryMs = 5000;
/** Taking memory back from one container for another. */
const reclaimStep = 16n * mebibyte;
const reclaimMaxMs = 1500;
/** For processes outside, so much a time; they wait again if it is not enough. */
const outsideStep = 64n * mebibyte;
/** Pressure on the host so soon after a container's is the same. */
const oursMs = 2000;

/** Files of a control group that has gone. */
const goneCodes = ['ENOENT', 'ENODEV'];

/** Something that was in vain is tried more and more rarely. */
class Backoff {
  #untilMs = -Infinity;
  #ms = refusedMs;

  isOver(nowMs: number): boolean {
    return nowMs >= this.#untilMs;
  }

  /** Answers whether this is the first time in a row. */
  fail(nowMs: number): boolean {
    const isFirst = this.#ms === refusedMs;
    this.#untilMs = nowMs + this.#ms;
    this.#ms = Math.min(this.#ms * 2, refusedMaxMs);
    return isFirst;
  }

  reset(): void {
    this.#untilMs = -Infinity;
    this.#ms = refusedMs;
  }
}

/** A container that has the setting. */
class Ward {
  readonly name: string;
  readonly unit: string;
  setting: Range;
  status: UnitStatus | undefined;
  unwatch: Promise<Unwatch> | undefined;
  /** What run of the unit is watched for pressure. */
  run = '';
  unwatchPressure: (() => void) | undefined;
  /** Nobody would hear of its need. */
  isBlind = false;
  /** What it has from us; undefined for one that is left alone. */
  share: bigint | undefined;
  isForeign = false;
  pressedAtMs = -Infinity;
  changedAtMs = -Infinity;
  grownAtMs = -Infinity;
  growths = 0;
  readonly refused = new Backoff();

  constructor({ name, unit }: Setting, setting: Range) {
    this.name = name;
    this.unit = unit;
    this.setting = setting;
  }

  get controlGroup(): string {
    return this.status?.activeState === 'active' ? this.status.controlGroup : '';
  }
}

interface Change {
  readonly ward: Ward;
  readonly before: bigint;
  readonly after: bigint;
  readonly reason: string;
}

/** A ward that has a share, with what the kernel says of it. */
interface Held {
  readonly ward: Ward;
  readonly member: Member;
}

/**
 * Moves MemoryHigh= of containers between their floors and ceilings. Does nothing but in answer to
 * an event: pressure, a unit that has changed, a daemon-reload.
 */
export class Autoballoon {
  /** Settles when no container has the setting any more; rejects when it cannot go on. */
  readonly ended: Promise<void>;
  readonly #ports: AutoballoonPorts;
  readonly #wards = new Map<string, Ward>();
  readonly #pressed = new Set<Ward>();
  readonly #hostRefused = new Backoff();
  /** What the kernel knows and systemd does not yet. */
  readonly #unsettled: Change[] = [];
  #end: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  #mustRead = true;
  #mustLook = false;
  #hostPressed = false;
  #turning = false;
  #willLook = false;

  constructor(ports: AutoballoonPorts) {
    this.#ports = ports;
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

  /** One thing after the other; what comes meanwhile is seen in the next turn. */
  #wake(): void {
    if (this.#turning) return;
    this.#turning = true;
    this.#turn()
      .catch((error: unknown) => {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      })
      .finally(() => {
        this.#turning = false;
        if (this.#isPending) this.#wake();
      });
  }

  get #isPending(): boolean {
    return this.#mustRead || this.#mustLook || this.#pressed.size > 0 || this.#hostPressed;
  }

  async #turn(): Promise<void> {
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
        for (const ward of pressed) await this.#grow(ward);
        await this.#settle();
      } else if (this.#hostPressed) {
        this.#hostPressed = false;
        await this.#relieve();
      } else {
        return;
      }
    }
  }

  /** A look later, for what cannot be done now. */
  #lookAfter(ms: number): void {
    if (this.#willLook) return;
    this.#willLook = true;
    setTimeout(() => {
      this.#willLook = false;
      this.#mustLook = true;
      this.#wake();
    }, ms);
  }

  async #read(): Promise<void> {
    const settings = new Map<string, Setting & { readonly autoballoon: Range }>();
    for (const setting of await this.#ports.settings()) {
      const { autoballoon } = setting;
      if (autoballoon !== undefined) settings.set(setting.name, { ...setting, autoballoon });
    }
    const gone = [...this.#wards.values()].filter(({ name }) => !settings.has(name));
    for (const ward of gone) this.#drop(ward);
    const taken = gone.filter(({ share }) => share !== undefined);
    if (taken.length > 0) await this.#ports.high.takeOff(taken.map(({ unit }) => unit));
    for (const [name, setting] of settings) {
      const known = this.#wards.get(name);
      if (known !== undefined) known.setting = setting.autoballoon;
      else this.#add(new Ward(setting, setting.autoballoon));
    }
    // Who runs already is known before anything is divided.
    for (const { unwatch } of this.#wards.values()) await unwatch;
    this.#mustLook = true;
    if (settings.size === 0) this.#end();
  }

  #add(ward: Ward): void {
    this.#wards.set(ward.name, ward);
    ward.unwatch = this.#ports.units.watch(ward.unit, (status) => {
      ward.status = status;
      this.#mustLook = true;
      this.#wake();
    });
    ward.unwatch.catch((error: unknown) => {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    });
  }

  #drop(ward: Ward): void {
    this.#wards.delete(ward.name);
    this.#pressed.delete(ward);
    ward.unwatchPressure?.();
    void ward.unwatch?.then((unwatch) => unwatch());
  }

  /** Follows units that have started and stopped and limits that have changed. */
  async #look(): Promise<void> {
    for (const ward of this.#wards.values()) {
      this.#follow(ward);
      if (!ward.isBlind || ward.share === undefined) continue;
      ward.share = undefined;
      await this.#ports.high.takeOff([ward.unit]);
    }
    const newcomers: { ward: Ward; figures: UnitFigures }[] = [];
    for (const ward of this.#wards.values()) {
      const figures = this.#figures(ward);
      if (figures === undefined) continue;
      // Whoever has changed it has changed it.
      if (ward.share !== undefined && figures.high !== ward.share) ward.share = undefined;
      if (ward.share === undefined) newcomers.push({ ward, figures });
      else await this.#fit(ward, figures);
    }
    const running = this.#shares().length + newcomers.length;
    for (const { ward, figures } of newcomers) await this.#takeOn(ward, figures, running);
    await this.#collect(excessOf(this.#shares(), this.#ports.memory.supply()), 'started');
    await this.#settle();
  }

  #follow(ward: Ward): void {
    const { status, controlGroup } = ward;
    const run = controlGroup === '' ? '' : `${controlGroup} ${status?.stateChangeUsec ?? 0n}`;
    if (run === ward.run) return;
    ward.run = run;
    ward.unwatchPressure?.();
    ward.unwatchPressure = undefined;
    ward.isBlind = false;
    ward.share = undefined;
    // Memory may have become free.
    for (const { refused } of this.#wards.values()) refused.reset();
    if (run === '') return;
    const file = join(cgroupRoot, controlGroup, 'memory.pressure');
    ward.unwatchPressure = this.#ports.pressure.watch(file, trigger, {
      fired: () => {
        ward.pressedAtMs = this.#ports.nowMs();
        this.#pressed.add(ward);
        this.#wake();
      },
      gone: (why) => {
        // Of a container's end its unit tells.
        if (this.#ports.memory.unit(ward.controlGroup) === undefined) return;
        ward.isBlind = true;
        this.#tell(ward, 4, `is left alone: its memory pressure cannot be watched: ${why}`, {});
        this.#mustLook = true;
        this.#wake();
      },
    });
  }

  /** What a container has now; undefined for one that is not to be touched at this moment. */
  #figures(ward: Ward): UnitFigures | undefined {
    if (ward.controlGroup === '' || ward.isBlind) return undefined;
    const isForeign = this.#ports.high.isForeign(ward.unit);
    if (isForeign && !ward.isForeign) {
      this.#tell(ward, 4, 'is left alone: MemoryHigh= of its unit was set by somebody else', {});
    }
    ward.isForeign = isForeign;
    if (isForeign) {
      ward.share = undefined;
      return undefined;
    }
    if (this.#ports.memory.isBallooning(ward.unit)) {
      this.#lookAfter(balloonRetryMs);
      return undefined;
    }
    return this.#ports.memory.unit(ward.controlGroup);
  }

  #range(ward: Ward, { limit }: UnitFigures): Range {
    const { memoryMax = unlimited } = ward.status ?? {};
    return rangeWithin(ward.setting, memoryMax < limit ? memoryMax : limit);
  }

  /** The containers that have shares, without one. */
  #shares(except?: Ward): { readonly share: bigint }[] {
    return [...this.#wards.values()].flatMap((ward) =>
      ward === except || ward.share === undefined ? [] : [{ share: ward.share }],
    );
  }

  #hold(ward: Ward, figures: UnitFigures, share: bigint): Held {
    const now = this.#ports.nowMs();
    const calmMs = now - Math.max(ward.pressedAtMs, ward.grownAtMs);
    return {
      ward,
      member: {
        name: ward.name,
        ...this.#range(ward, figures),
        share,
        usage: figures.usage,
        cold: figures.cold,
        calm: calmMs >= calmAfterMs && now - ward.changedAtMs >= changeEveryMs,
        idle: calmMs >= idleAfterMs,
      },
    };
  }

  #members(except?: Ward): Member[] {
    return [...this.#wards.values()].flatMap((ward) => {
      const { share } = ward;
      if (ward === except || share === undefined) return [];
      const figures = this.#figures(ward);
      return figures === undefined ? [] : [this.#hold(ward, figures, share).member];
    });
  }

  async #takeOn(ward: Ward, figures: UnitFigures, running: number): Promise<void> {
    const supply = this.#ports.memory.supply();
    const newcomer = { ...this.#range(ward, figures), usage: figures.usage };
    await this.#set(ward, firstShare(newcomer, this.#shares(ward), supply, running), 'started');
  }

  async #fit(ward: Ward, figures: UnitFigures): Promise<void> {
    if (ward.share === undefined) return;
    const share = fittedShare(this.#hold(ward, figures, ward.share).member);
    if (share === ward.share) return;
    const waitMs = ward.changedAtMs + changeEveryMs - this.#ports.nowMs();
    if (waitMs > 0) this.#lookAfter(waitMs);
    else await this.#set(ward, share, 'limit changed');
  }

  async #grow(ward: Ward): Promise<void> {
    const { memory, nowMs } = this.#ports;
    const now = nowMs();
    // The trigger fires again as long as there is need.
    if (now - ward.changedAtMs < changeEveryMs || !ward.refused.isOver(now)) return;
    const figures = this.#figures(ward);
    if (figures === undefined || ward.share === undefined) return;
    const { member } = this.#hold(ward, figures, ward.share);
    // It waits for memory, but not for want of a larger share.
    if (!isNear(member) || member.share >= member.ceiling) return;
    const times = now - ward.grownAtMs < inARowMs ? ward.growths + 1 : 0;
    const step = stepOf(member.share, times, roomFor(this.#shares(), memory.supply()));
    const shortage = shortageFor(member, step, this.#shares(ward), memory.supply());
    await this.#collect(shortage, `needed by ${ward.name}`, ward);
    const share = grownShare(member, step, this.#shares(ward), memory.supply());
    if (share - member.share < grain && share < member.ceiling) {
      if (ward.refused.fail(now)) {
        this.#tell(ward, 5, `gets no more than ${formatLimit(member.share)}: nobody has any left`, {
          BEFORE: member.share.toString(),
          AFTER: member.share.toString(),
          REASON: 'nothing left',
        });
      }
      return;
    }
    ward.refused.reset();
    await this.#set(ward, share, 'memory pressure');
    ward.grownAtMs = nowMs();
    ward.growths = times;
  }

  /** The host is short of memory; who holds some that is idle gives it. */
  async #relieve(): Promise<void> {
    const { memory, nowMs } = this.#ports;
    const now = nowMs();
    const { spare } = memory.supply();
    // Who waits in a container that has used up its share waits on the host as well.
    const isOurs = [...this.#wards.values()].some((ward) => now - ward.pressedAtMs < oursMs);
    // And who has reached a limit of his own waits whatever the host has left.
    const outside = isOurs || !memory.isFull() ? 0n : outsideStep;
    const short = -spare > outside ? -spare : outside;
    if (short === 0n || !this.#hostRefused.isOver(now)) return;
    const given = await this.#collect({ shares: 0n, memory: short }, 'host is short');
    if (given) this.#hostRefused.reset();
    else this.#hostRefused.fail(nowMs());
    await this.#settle();
  }

  /** Answers whether anybody gave anything. */
  async #collect(shortage: Shortage, reason: string, except?: Ward): Promise<boolean> {
    if (shortage.shares <= 0n && shortage.memory <= 0n) return false;
    let given = false;
    for (const gift of giftsFor(this.#members(except), shortage)) {
      const ward = this.#wards.get(gift.name);
      if (ward !== undefined && (await this.#give(ward, gift, reason))) given = true;
    }
    return given;
  }

  async #give(ward: Ward, gift: Gift, reason: string): Promise<boolean> {
    const { memory, nowMs } = this.#ports;
    const begun = nowMs();
    const goal = (memory.unit(ward.controlGroup)?.usage ?? 0n) - gift.reclaim;
    for (;;) {
      const excess = (memory.unit(ward.controlGroup)?.usage ?? 0n) - goal;
      // Who begins to miss something keeps the rest.
      const isOver = nowMs() - begun > reclaimMaxMs || ward.pressedAtMs >= begun;
      if (gift.reclaim === 0n || excess <= 0n || isOver) break;
      const step = excess < reclaimStep ? excess : reclaimStep;
      if (!(await memory.reclaim(ward.controlGroup, step))) break;
    }
    const figures = this.#figures(ward);
    if (figures === undefined || ward.share === undefined) return false;
    const needed = figures.usage + marginOf(figures.usage);
    // It uses more than was thought.
    const share = needed > gift.share && gift.reclaim > 0n ? needed : gift.share;
    if (ward.share - share < grain) {
      ward.pressedAtMs = nowMs();
      return false;
    }
    await this.#set(ward, share, reason);
    return true;
  }

  async #set(ward: Ward, share: bigint, reason: string): Promise<void> {
    const { high, nowMs } = this.#ports;
    const before = ward.share;
    const after = wholePages(share);
    // A unit that is just stopping takes nothing any more.
    if (ward.controlGroup === '') return;
    try {
      await high.apply(ward.unit, ward.controlGroup, after);
    } catch (error) {
      if (goneCodes.includes(codeOf(error) ?? '')) return;
      throw error;
    }
    ward.share = after;
    ward.changedAtMs = nowMs();
    this.#unsettled.push({ ward, before: before ?? unlimited, after, reason });
  }

  /** Tells systemd and the journal, when nobody waits for memory any more. */
  async #settle(): Promise<void> {
    for (const { ward, before, after, reason } of this.#unsettled.splice(0)) {
      const { high } = this.#ports;
      // Of more than one change the last one counts, unless somebody else's does.
      if (ward.share === after && ward.controlGroup !== '' && !high.isForeign(ward.unit)) {
        await high.settle(ward.unit, after);
      }
      const from = before === unlimited ? '' : `${formatLimit(before)} -> `;
      this.#tell(ward, 6, `may use ${from}${formatLimit(after)}: ${reason}`, {
        BEFORE: before.toString(),
        AFTER: after.toString(),
        REASON: reason,
      });
    }
  }

  #tell(
    ward: Ward,
    priority: number,
    text: string,
    fields: Readonly<Record<string, string>>,
  ): void {
    this.#ports.journal.write({
      messageId: messageIds.autoballoon,
      priority,
      message: `container "${ward.name}" ${text}`,
      fields: { CONTAINER: ward.name, ...fields },
    });
  }
}
