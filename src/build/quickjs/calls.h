/* What JavaScript finds as global functions. */
#include "quickjs.h"

void add_function(JSContext *context, const char *name, JSCFunction *function, int length);

/* See calls.c. */
void add_calls(JSContext *context);

/* See plain-text.c. */
void add_plain_text(JSContext *context);
