import type { ReactNode } from 'react';
export function LockersPage(): ReactNode {
  return <p>Lockers</p>;
}
