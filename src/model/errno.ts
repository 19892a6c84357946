/** The errno name of a failed system call, such as ENOENT. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

const errnoTexts: Readonly<Record<string, string>> = {
  ENOSPC: 'no space is left on the file system',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOENT: 'the directory does not exist',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'a file of that name is in the way',
  EISDIR: 'a directory of that name is in the way',
  ENAMETOOLONG: 'the name is too long',
};

/** Describes the error of a failed system call in words. */
export function errnoText(error: unknown): string {
  const { code } = error as { code?: string };
  if (code === undefined) return String(error);
  return errnoTexts[code] ?? `the system answered ${code}`;
}
