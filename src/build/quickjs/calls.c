/*
 * System calls as host/system-quickjs.ts needs them, one call from JavaScript for each file. The
 * engine's own module makes an object of twelve fields for each stat(2), and a C stream for each file.
 * What fails answers the errno, without an exception.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"

static JSAtom mode_name, size_name, dev_name, ino_name, rdev_name, text_name, bytes_name, plain_name;

/* Bytes as a string in which each is a character: what is not UTF-8 must not get lost. */
static JSValue string_of_bytes(JSContext *context, const unsigned char *bytes, size_t length) {
  char *text = js_malloc(context, 2 * length + 1);
  if (!text) return JS_EXCEPTION;
  size_t used = 0;
  for (size_t at = 0; at < length; at++) {
    if (bytes[at] >= 0x80) text[used++] = (char)(0xc0 | bytes[at] >> 6);
    text[used++] = (char)(bytes[at] >= 0x80 ? 0x80 | (bytes[at] & 0x3f) : bytes[at]);
  }
  JSValue string = JS_NewStringLen(context, text, used);
  js_free(context, text);
  return string;
}

/*
 * How many bytes a character has that begins here; less than 0 for what is none, and then how many of
 * them could have begun one. Neither a longer form than needed nor half of a surrogate pair is one.
 */
static int character_length(const unsigned char *bytes, size_t left) {
  unsigned char first = bytes[0], low = 0x80, high = 0xbf;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return -1;
  int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  for (int at = 1; at < length; at++) {
    if ((size_t)at >= left || bytes[at] < low || bytes[at] > high) return -at;
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

/* Bytes as text, as decodeUtf8() in model/utf8.ts: U+FFFD stands for what is no UTF-8. */
static JSValue string_of_text(JSContext *context, const unsigned char *bytes, size_t length) {
  size_t at = 0;
  while (at < length && bytes[at] < 0x80) at++;
  if (at == length) return JS_NewStringLen(context, (const char *)bytes, length);
  unsigned char *text = js_malloc(context, 3 * length);
  if (!text) return JS_EXCEPTION;
  memcpy(text, bytes, at);
  for (size_t used = at;;) {
    if (at == length) {
      JSValue string = JS_NewStringLen(context, (const char *)text, used);
      js_free(context, text);
      return string;
    }
    int count = character_length(bytes + at, length - at);
    memcpy(text + used, count > 0 ? bytes + at : (const unsigned char *)"\xef\xbf\xbd", count > 0 ? (size_t)count : 3);
    used += count > 0 ? (size_t)count : 3;
    at += (size_t)(count > 0 ? count : -count);
  }
}

/* directoryNames(path): the names in a directory, or the errno of why there are none. */
static JSValue directory_names(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  const char *path = argc == 1 ? JS_ToCString(context, argv[0]) : NULL;
  if (!path) return JS_EXCEPTION;
  DIR *directory = opendir(path);
  int error = errno;
  JS_FreeCString(context, path);
  if (!directory) return JS_NewInt32(context, error);
  JSValue names = JS_NewArray(context);
  uint32_t count = 0;
  errno = 0;
  for (struct dirent *entry; (entry = readdir(directory)); errno = 0) {
    const char *name = entry->d_name;
    if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
    JSValue string = string_of_text(context, (const unsigned char *)name, strlen(name));
    JS_SetPropertyUint32(context, names, count++, string);
  }
  error = errno;
  closedir(directory);
  if (error == 0) return names;
  JS_FreeValue(context, names);
  return JS_NewInt32(context, error);
}

static void set(JSContext *context, JSValue object, JSAtom name, JSValue value) {
  JS_DefinePropertyValue(context, object, name, value, JS_PROP_C_W_E);
}

static JSValue status_of(JSContext *context, const struct stat *found) {
  JSValue status = JS_NewObject(context);
  set(context, status, mode_name, JS_NewInt32(context, (int)found->st_mode));
  set(context, status, size_name, JS_NewInt64(context, found->st_size));
  set(context, status, dev_name, JS_NewInt64(context, (int64_t)found->st_dev));
  set(context, status, ino_name, JS_NewInt64(context, (int64_t)found->st_ino));
  set(context, status, rdev_name, JS_NewInt64(context, (int64_t)found->st_rdev));
  return status;
}

/* fileStatus(path, isFollowed): what stat(2) or lstat(2) tells, or the errno. */
static JSValue file_status(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  const char *path = argc == 2 ? JS_ToCString(context, argv[0]) : NULL;
  if (!path) return JS_EXCEPTION;
  struct stat found;
  int failed = JS_ToBool(context, argv[1]) ? stat(path, &found) : lstat(path, &found);
  int error = errno;
  JS_FreeCString(context, path);
  return failed ? JS_NewInt32(context, error) : status_of(context, &found);
}

/* Only printable ASCII, tabs and newlines: nobody has to look for what a text should not have. */
static int is_plain(const unsigned char *bytes, size_t length) {
  for (size_t at = 0; at < length; at++) {
    if ((bytes[at] < 0x20 && bytes[at] != '\t' && bytes[at] != '\n') || bytes[at] >= 0x7f) return 0;
  }
  return 1;
}

/* Reads to the end or until there is more than `most`; the length, or -1. */
static ssize_t read_to_end(int fd, unsigned char **buffer, size_t size, size_t most) {
  static unsigned char *kept;
  static size_t room;
  size_t length = 0;
  for (;;) {
    if (length + size + 1 > room) {
      size_t wanted = length + size + 4096;
      unsigned char *larger = realloc(kept, wanted);
      if (!larger) return -1;
      kept = larger;
      room = wanted;
    }
    *buffer = kept;
    ssize_t count = read(fd, kept + length, room - length);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? -1 : (ssize_t)length;
    length += (size_t)count;
    if (length > most) return (ssize_t)length;
    /* A file may grow meanwhile, and those of the kernel do not tell their size. */
    size = length < room ? 0 : length;
  }
}

/*
 * fileContent(path, flags, most, isText): of a regular file its text, or its bytes as characters,
 * `bytes` how many these are, and `isPlain`, unless they are more than `most`; of all else its
 * status; or the errno.
 */
static JSValue file_content(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  int32_t flags;
  int64_t most;
  if (argc != 4 || JS_ToInt32(context, &flags, argv[1]) || JS_ToInt64(context, &most, argv[2]))
    return JS_EXCEPTION;
  const char *path = JS_ToCString(context, argv[0]);
  if (!path) return JS_EXCEPTION;
  int fd = open(path, flags);
  int error = errno;
  JS_FreeCString(context, path);
  if (fd < 0) return JS_NewInt32(context, error);
  struct stat found;
  unsigned char *buffer = NULL;
  ssize_t length = 0;
  int isFile = 0;
  int failed = fstat(fd, &found);
  if (!failed && (isFile = S_ISREG(found.st_mode))) {
    length = found.st_size > most ? most + 1
                                  : read_to_end(fd, &buffer, (size_t)found.st_size, (size_t)most);
    failed = length < 0;
  }
  error = errno;
  close(fd);
  if (failed) return JS_NewInt32(context, error);
  if (!isFile) return status_of(context, &found);
  JSValue content = JS_NewObject(context);
  set(context, content, bytes_name, JS_NewInt64(context, length));
  if (length > most) return content;
  int plain = is_plain(buffer, (size_t)length);
  JSValue text = plain || JS_ToBool(context, argv[3])
                   ? string_of_text(context, buffer, (size_t)length)
                   : string_of_bytes(context, buffer, (size_t)length);
  set(context, content, text_name, text);
  set(context, content, plain_name, JS_NewBool(context, plain));
  return content;
}

/* linkTarget(path): where a symbolic link leads, or the errno of why that cannot be told. */
static JSValue link_target(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  static char target[PATH_MAX];
  const char *path = argc == 1 ? JS_ToCString(context, argv[0]) : NULL;
  if (!path) return JS_EXCEPTION;
  ssize_t length = readlink(path, target, sizeof target);
  int error = errno;
  JS_FreeCString(context, path);
  return length < 0 ? JS_NewInt32(context, error)
                    : string_of_text(context, (const unsigned char *)target, (size_t)length);
}

static int write_all(int fd, const char *text, size_t length) {
  while (length > 0) {
    ssize_t count = write(fd, text, length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    text += count;
    length -= (size_t)count;
  }
  return 0;
}

/* newFile(path, text): 0, or the errno; the file must not be there, and is not left half written. */
static JSValue new_file(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  size_t length;
  const char *path = argc == 2 ? JS_ToCString(context, argv[0]) : NULL;
  const char *text = path ? JS_ToCStringLen(context, &length, argv[1]) : NULL;
  int error = 0;
  if (text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) error = errno;
    else {
      if (write_all(fd, text, length)) error = errno;
      if (close(fd) && !error) error = errno;
      if (error) unlink(path);
    }
  }
  JS_FreeCString(context, path);
  JS_FreeCString(context, text);
  return text ? JS_NewInt32(context, error) : JS_EXCEPTION;
}

void add_function(JSContext *context, const char *name, JSCFunction *function, int length) {
  JSValue global = JS_GetGlobalObject(context);
  JS_SetPropertyStr(context, global, name, JS_NewCFunction(context, function, name, length));
  JS_FreeValue(context, global);
}

void add_calls(JSContext *context) {
  mode_name = JS_NewAtom(context, "mode");
  size_name = JS_NewAtom(context, "size");
  dev_name = JS_NewAtom(context, "dev");
  ino_name = JS_NewAtom(context, "ino");
  rdev_name = JS_NewAtom(context, "rdev");
  text_name = JS_NewAtom(context, "text");
  bytes_name = JS_NewAtom(context, "bytes");
  plain_name = JS_NewAtom(context, "isPlain");
  add_function(context, "directoryNames", directory_names, 1);
  add_function(context, "fileStatus", file_status, 2);
  add_function(context, "fileContent", file_content, 4);
  add_function(context, "linkTarget", link_target, 1);
  add_function(context, "newFile", new_file, 2);
}
