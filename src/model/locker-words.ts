/** Words about lockers that service, helper and clients share. */

/** How a locker is; see Health in org.lockerd1(5), where a test compares. */
export const lockerHealths = [
  'good',
  'nearly-full',
  'read-only',
  'device-missing',
  'hung',
  'unknown',
] as const;
export type LockerHealth = (typeof lockerHealths)[number];

/** How a locker can be encrypted. */
export const encryptions = ['key-file', 'passphrase'] as const;
export type Encryption = (typeof encryptions)[number];

/** Whether a new locker is to be encrypted, and how. */
export const encryptModes = ['no', ...encryptions] as const;
export type EncryptMode = (typeof encryptModes)[number];
