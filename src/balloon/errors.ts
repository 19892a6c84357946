import { CoreError } from '../model/errors.ts';

/** A shrink that could not be done; everything is as it was before. */
export class LimitBelowUsage extends CoreError {
  /** Bytes: the lowest limit that would have worked, as far as the attempt could see. */
  readonly lowest: bigint;
  /** Microseconds that the attempt made the guest stand still; undefined where nobody counts. */
  readonly stallUsec: number | undefined;

  constructor(message: string, lowest: bigint, stallUsec: number | undefined) {
    super('limitBelowUsage', message);
    this.lowest = lowest;
    this.stallUsec = stallUsec;
  }
}
