/** Quotes one word for a POSIX shell, for commands in messages that people paste. */
export function shellWord(word: string): string {
  return /^[-\w./:=@%+,]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
