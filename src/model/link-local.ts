/** Whether an IP address, in its shortest form, is good for the own link only. */
export function isLinkLocal(address: string): boolean {
  return /^(?:169\.254\.|fe[89ab][0-9a-f]:)/.test(address);
}
