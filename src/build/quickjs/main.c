/*
 * The start of the compiled generator: QuickJS with what the program needs of it. The program ends
 * before garbage in circles could matter, so none is collected; and since one run makes and drops
 * hundreds of small blocks for each container, they come from lists by size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "calls.h"
#include "quickjs-libc.h"

extern const uint8_t program[];
extern const uint32_t program_size;

enum { STEP = 16, CLASSES = 33, CHUNK = 256 * 1024 };

/* In front of each block, as large as it must be for the block to be aligned. */
typedef struct {
  size_t size;
} Header;

typedef struct Free {
  struct Free *next;
} Free;

static Free *lists[CLASSES];
static char *chunk, *chunk_end;

/* Sizes are rounded so that header and block together are a multiple of STEP. */
static size_t rounded(size_t size) {
  size_t all = (size + sizeof(Header) + STEP - 1) / STEP * STEP;
  return (all < 2 * STEP ? 2 * STEP : all) - sizeof(Header);
}

static size_t class_of(size_t rounded_size) {
  return (rounded_size + sizeof(Header)) / STEP;
}

static Header *header_of(void *block) {
  return (Header *)block - 1;
}

static void *allocate(JSMallocState *state, size_t size) {
  (void)state;
  if (size > SIZE_MAX / 2) return NULL;
  size = rounded(size);
  size_t class = class_of(size);
  if (class >= CLASSES) {
    char *large = malloc(size + STEP);
    if (!large) return NULL;
    char *block = large + STEP;
    header_of(block)->size = size;
    return block;
  }
  Free *known = lists[class];
  if (known) {
    lists[class] = known->next;
    return known;
  }
  size_t all = size + sizeof(Header);
  if ((size_t)(chunk_end - chunk) < all) {
    // All of it will be written, and page by page that takes longer.
    char *fresh = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (fresh == MAP_FAILED) return NULL;
    chunk = fresh + STEP - sizeof(Header);
    chunk_end = fresh + CHUNK;
  }
  char *block = chunk + sizeof(Header);
  chunk += all;
  header_of(block)->size = size;
  return block;
}

static void release(JSMallocState *state, void *block) {
  (void)state;
  if (!block) return;
  size_t class = class_of(header_of(block)->size);
  if (class >= CLASSES) {
    free((char *)block - STEP);
    return;
  }
  Free *freed = block;
  freed->next = lists[class];
  lists[class] = freed;
}

static void *reallocate(JSMallocState *state, void *block, size_t size) {
  if (!block) return size == 0 ? NULL : allocate(state, size);
  if (size == 0) {
    release(state, block);
    return NULL;
  }
  size_t old = header_of(block)->size;
  if (size <= old && size >= old / 2) return block;
  if (class_of(old) >= CLASSES && size <= SIZE_MAX / 2 && class_of(rounded(size)) >= CLASSES) {
    char *large = realloc((char *)block - STEP, rounded(size) + STEP);
    if (!large) return NULL;
    header_of(large + STEP)->size = rounded(size);
    return large + STEP;
  }
  void *moved = allocate(state, size);
  if (!moved) return NULL;
  memcpy(moved, block, old < size ? old : size);
  release(state, block);
  return moved;
}

static size_t usable(const void *block) {
  return block ? ((const Header *)block - 1)->size : 0;
}

static const JSMallocFunctions allocator = { allocate, release, reallocate, usable };

int main(int argc, char **argv) {
  JSRuntime *runtime = JS_NewRuntime2(&allocator, NULL);
  if (!runtime) return 1;
  JS_SetGCThreshold(runtime, SIZE_MAX);
  js_std_init_handlers(runtime);
  JSContext *context = JS_NewContextRaw(runtime);
  if (!context) return 1;
  JS_AddIntrinsicBaseObjects(context);
  JS_AddIntrinsicRegExpCompiler(context);
  JS_AddIntrinsicRegExp(context);
  JS_AddIntrinsicJSON(context);
  JS_AddIntrinsicMapSet(context);
  JS_AddIntrinsicTypedArrays(context);
  JS_AddIntrinsicPromise(context);
  js_init_module_std(context, "std");
  js_init_module_os(context, "os");
  js_std_add_helpers(context, argc, argv);
  add_calls(context);
  add_plain_text(context);
  js_std_eval_binary(context, program, program_size, 0);
  /* The program ends itself; what comes here has failed, and said so. */
  return 1;
}
