/** Time as the core sees it, so that its tests need not wait. */
export interface Clock {
  /** Milliseconds of a clock that is never set. */
  nowMs(): number;
  /** CLOCK_REALTIME, microseconds. */
  realtimeUsec(): bigint;
  /** Calls back once. The returned function takes the appointment back. */
  after(delayMs: number, callback: () => void): () => void;
}
