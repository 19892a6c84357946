import type { ReactNode } from 'react';
export function ContainerPage({ name }: { readonly name: string }): ReactNode {
  return <p>{name}</p>;
}
