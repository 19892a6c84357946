/** The journal's MESSAGE_IDs; their explanations are in units/catalog/lockerd.catalog. */
export const messageIds = {
  /** Whether a caller may do what it asked for. */
  decision: '50dbc41fa8384f3e971af6c9fa1cf7d1',
  jobEnded: '2967aa92c59c43bdabf8eedba8766264',
  /** The automatic balloon has changed what a container may use, or could not. */
  autoballoon: 'ff94e73a7d7143e7adcedc671d6027e6',
  /** A call on the bus, for whoever looks for a fault. */
  call: '6d0a2f5b9b6e4b7c8a1f3e2d7c5b4a90',
  /** Something that lockerd needs does not answer as it should. */
  trouble: 'b77ec03bd8024190a239734a64d10a0b',
} as const;
