/** One word for a POSIX shell, for commands that a message tells somebody to paste. */
export function shellWord(word: string): string {
  return /^[-\w./:=@%+,]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
