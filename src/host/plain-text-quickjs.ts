/** model/plain-text.ts for the compiled generator, in C: build/quickjs/plain-text.c. */
export const isPlainWord = plainWord;
export const isPlainLine = plainLine;
export const isPlainInstance = plainInstance;
export const escapePlainPath = escapedPlainPath;
