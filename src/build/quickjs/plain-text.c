/*
 * What model/plain-text.ts does by regular expressions, which say more shortly what is looked for here:
 * QuickJS takes ten times as long for them. A test compares both.
 */
#include <string.h>

#include "calls.h"

static int is_alphanumeric(unsigned char byte) {
  unsigned char small = byte | 0x20;
  return (byte >= '0' && byte <= '9') || (small >= 'a' && small <= 'z');
}

static int is_one_of(const char *characters, unsigned char byte) {
  return is_alphanumeric(byte) || (byte && strchr(characters, byte));
}

static JSValue plain_word(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  size_t length;
  const char *text = argc == 1 ? JS_ToCStringLen(context, &length, argv[0]) : NULL;
  if (!text) return JS_EXCEPTION;
  int plain = length > 0 && text[0] != '=';
  for (size_t at = 0; plain && at < length; at++) plain = is_one_of("/-.:=_@+,", text[at]);
  JS_FreeCString(context, text);
  return JS_NewBool(context, plain);
}

static JSValue plain_line(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  size_t length;
  const char *text = argc == 1 ? JS_ToCStringLen(context, &length, argv[0]) : NULL;
  if (!text) return JS_EXCEPTION;
  int plain = length > 0 && text[0] != ' ' && text[length - 1] != ' ';
  for (size_t at = 0; plain && at < length; at++) {
    plain = text[at] >= ' ' && text[at] <= '~' && text[at] != '%' && text[at] != '\\';
  }
  JS_FreeCString(context, text);
  return JS_NewBool(context, plain);
}

static JSValue plain_instance(JSContext *context, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self;
  size_t length;
  const char *name = argc == 1 ? JS_ToCStringLen(context, &length, argv[0]) : NULL;
  if (!name) return JS_EXCEPTION;
  int plain = 1;
  for (size_t at = 0; plain && at < length; at++) plain = is_one_of("-.:_@", name[at]);
  JS_FreeCString(context, name);
  return JS_NewBool(context, plain);
}

/* How long the path is when it is escaped, or 0 for one that has more than dashes to escape. */
static size_t escaped_length(const char *path, size_t length) {
  if (length < 2 || path[0] != '/' || path[length - 1] == '/') return 0;
  size_t escaped = length - 1;
  for (size_t at = 1; at < length; at++) {
    int is_first = path[at - 1] == '/';
    if (path[at] == '/' ? is_first : !is_one_of(is_first ? ":_-" : "-.:_", path[at])) return 0;
    if (path[at] == '-') escaped += 3;
  }
  return escaped;
}

static JSValue escaped_plain_path(JSContext *context, JSValueConst self, int argc,
                                  JSValueConst *argv) {
  (void)self;
  size_t length;
  const char *path = argc == 1 ? JS_ToCStringLen(context, &length, argv[0]) : NULL;
  if (!path) return JS_EXCEPTION;
  size_t room = escaped_length(path, length);
  JSValue result = JS_UNDEFINED;
  char *escaped = room > 0 ? js_malloc(context, room) : NULL;
  if (escaped) {
    char *to = escaped;
    for (size_t at = 1; at < length; at++) {
      if (path[at] == '-') {
        memcpy(to, "\\x2d", 4);
        to += 4;
      } else *to++ = path[at] == '/' ? '-' : path[at];
    }
    result = JS_NewStringLen(context, escaped, room);
    js_free(context, escaped);
  } else if (room > 0) result = JS_EXCEPTION;
  JS_FreeCString(context, path);
  return result;
}

void add_plain_text(JSContext *context) {
  add_function(context, "plainWord", plain_word, 1);
  add_function(context, "plainLine", plain_line, 1);
  add_function(context, "plainInstance", plain_instance, 1);
  add_function(context, "escapedPlainPath", escaped_plain_path, 1);
}
