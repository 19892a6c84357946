/* See calls.c. */
#include "quickjs.h"

void add_calls(JSContext *context);
