#define _GNU_SOURCE
#include "heap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "headroom.h"
#include "status.h"

#define PAGE 4096ULL
#define NONE UINT32_MAX
#define ANY UINT64_MAX
#define GRAIN 64ULL
/* Blocks of a page or more start on a page, so that big states copy and map cleanly. */
#define PAGED_FROM PAGE
/* Data is committed in steps: small enough to waste little, large enough to be rare. */
#define COMMIT_STEP (256ULL << 10)
#define COMMIT_BLOCKS 1024U
/* Steps of class that a block may be larger than asked for: four make it twice the size. Sizes that
 * change from map to map would else each keep the most that was ever in use at once of them. */
#define MOST_STEPS 4
/* From here a look through all descriptors costs less than fresh pages would. */
#define ALWAYS_SWEEP_FROM (64ULL << 10)

struct rw_heap_lists {
    uint32_t head[RW_HEAP_CLASSES];     /* newest free block of a class: its pages are warm */
    uint32_t credit;                    /* blocks that may be handed out before the next sweep */
    uint32_t known;                     /* descriptors seen so far */
    uint32_t next[RW_HEAP_MAX_BLOCKS];  /* free-list links */
    uint8_t listed[RW_HEAP_MAX_BLOCKS]; /* 1 while a block is on a list */
};

static uint64_t round_up(uint64_t n, uint64_t grain) {
    return (n + grain - 1) / grain * grain;
}

/* Four size classes a power of two, rounded up to 64 bytes and from a page on to pages: up to half
 * of a small block is waste, at most a fifth of one of many pages. */
static uint32_t class_of(uint64_t length) {
    if (length <= GRAIN)
        return 0;
    uint32_t log = 63 - (uint32_t)__builtin_clzll(length - 1);
    uint32_t quarter = (uint32_t)((length - 1) >> (log - 2)) & 3;
    return (log - 6) * 4 + quarter + 1;
}

static uint64_t class_size(uint32_t class) {
    if (class == 0)
        return GRAIN;
    uint32_t log = (class - 1) / 4 + 6, quarter = (class - 1) % 4;
    uint64_t size = (1ULL << log) + ((uint64_t)(quarter + 1) << (log - 2));
    return round_up(size, size >= PAGED_FROM ? PAGE : GRAIN);
}

uint64_t rw_heap_bytes(uint64_t data_size) {
    uint64_t table =
        sizeof(struct rw_heap_words) + (uint64_t)RW_HEAP_MAX_BLOCKS * sizeof(struct rw_block);
    return round_up(table, PAGE) + data_size;
}

int rw_heap_bind(struct rw_heap *heap, const struct rw_arena *arena, uint64_t start,
                 uint64_t data_size) {
    uint64_t bytes = rw_heap_bytes(data_size);
    if (start > arena->size || bytes > arena->size - start)
        return RW_CORRUPT;
    heap->arena = arena;
    heap->start = start;
    heap->data_start = start + bytes - data_size;
    heap->data_size = data_size;
    heap->words = (struct rw_heap_words *)(arena->base + start);
    heap->blocks = (struct rw_block *)(heap->words + 1);
    heap->data = arena->base + heap->data_start;
    heap->lists = NULL;
    return RW_OK;
}

/* False also for a free block if somebody added a hold, to any block, meanwhile: see heap.h. */
static bool is_free(const struct rw_heap *heap, uint32_t block) {
    const struct rw_block *b = &heap->blocks[block];
    /* sync: pairs with hold's add; a hold that is counted here has its bit set below. */
    uint64_t holds = rw_load_acquire(&heap->words->holds);
    /* sync: pairs with release's clear; the hold that allowed it is counted below. */
    for (int i = 0; i < RW_HOLDER_WORDS; i++)
        if (rw_load_acquire(&b->holders[i]) != 0)
            return false;
    return rw_load_acquire(&heap->words->holds) == holds;
}

static void list_push(struct rw_heap *heap, uint32_t block) {
    struct rw_heap_lists *lists = heap->lists;
    uint32_t class = class_of(heap->blocks[block].size);
    if (class >= RW_HEAP_CLASSES)
        return; /* scribbled on: such a block is never used again */
    lists->listed[block] = 1;
    lists->next[block] = lists->head[class];
    lists->head[class] = block;
}

static uint32_t published(const struct rw_heap *heap) {
    uint64_t count = rw_load_acquire(&heap->words->count);
    return count > RW_HEAP_MAX_BLOCKS ? RW_HEAP_MAX_BLOCKS : (uint32_t)count;
}

/* Put every free block on its list. */
static void sweep(struct rw_heap *heap) {
    uint32_t count = published(heap);
    for (uint32_t i = 0; i < count; i++)
        if (!heap->lists->listed[i] && is_free(heap, i))
            list_push(heap, i);
    heap->lists->known = count;
    /* Sweeping costs the count, so the blocks handed out between two sweeps grow with it. Those
     * from the lists count too: were it only new ones, every sweep would allow some, for ever. */
    heap->lists->credit = 16 + count / 4;
}

int rw_heap_own(struct rw_heap *heap) {
    /* Anonymous zero pages: the tables are large, but only what is used gets memory. */
    void *lists = mmap(NULL, sizeof(struct rw_heap_lists), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (lists == MAP_FAILED)
        return RW_OS;
    heap->lists = lists;
    memset(heap->lists->head, 0xff, sizeof heap->lists->head);
    sweep(heap);
    return RW_OK;
}

void rw_heap_disown(struct rw_heap *heap) {
    if (heap->lists != NULL)
        munmap(heap->lists, sizeof(struct rw_heap_lists));
    heap->lists = NULL;
}

/* Promise memory for the first `bytes` of the data area. */
static int commit_data(struct rw_heap *heap, uint64_t bytes) {
    uint64_t have = rw_load_relaxed(&heap->words->committed); /* only the writer writes it */
    if (bytes <= have)
        return RW_OK;
    if (bytes > heap->data_size)
        return RW_NO_MEMORY;
    uint64_t want = round_up(bytes, COMMIT_STEP);
    if (want > heap->data_size)
        want = heap->data_size;
    int status = rw_arena_reserve(heap->arena, heap->data_start + have, want - have);
    if (status == RW_OK)
        rw_store_release(&heap->words->committed, want);
    return status;
}

/* Promise memory for the descriptor table's first `count` entries and the words before it. */
static int commit_blocks(struct rw_heap *heap, uint32_t count) {
    uint64_t have = rw_load_relaxed(&heap->words->committed_blocks);
    if (count <= have)
        return RW_OK;
    uint64_t want = round_up(count, COMMIT_BLOCKS);
    uint64_t bytes = sizeof(struct rw_heap_words) + want * sizeof(struct rw_block);
    int status = rw_arena_reserve(heap->arena, heap->start, bytes);
    if (status == RW_OK)
        rw_store_release(&heap->words->committed_blocks, want);
    return status;
}

/* Whether as much again could be had. */
static bool is_spare(uint64_t size) {
    struct rw_headroom room;
    rw_headroom(&room);
    return room.bytes / 2 >= size;
}

/* Make a block at the end of the data area, that ends within `most` bytes. */
static int make_block(struct rw_heap *heap, uint64_t size, uint64_t most, uint32_t *block) {
    uint32_t count = published(heap);
    if (count == RW_HEAP_MAX_BLOCKS)
        return RW_FULL;
    const struct rw_block *last = count ? &heap->blocks[count - 1] : NULL;
    uint64_t offset = last ? last->offset + last->size : 0;
    if (size >= PAGED_FROM)
        offset = round_up(offset, PAGE);
    if (offset > heap->data_size || size > heap->data_size - offset)
        return RW_NO_MEMORY;
    if (most != ANY && (offset + size > most || !is_spare(size)))
        return RW_NO_MEMORY;
    int status = commit_blocks(heap, count + 1);
    if (status == RW_OK)
        status = commit_data(heap, offset + size);
    if (status != RW_OK)
        return status;
    struct rw_block *b = &heap->blocks[count];
    b->offset = offset;
    b->size = size;
    for (int i = 0; i < RW_HOLDER_WORDS; i++)
        rw_store_relaxed(&b->holders[i], 0);
    /* sync: pairs with published()'s load; protects offset and size. */
    rw_store_release(&heap->words->count, (uint64_t)count + 1);
    heap->lists->known = count + 1;
    *block = count;
    return RW_OK;
}

/* Pop a free block of the class. One that is held after all was taken by a sibling that shares
 * our lists (a forked task process): drop it, a sweep will find it again. */
static uint32_t list_pop(struct rw_heap *heap, uint32_t class) {
    struct rw_heap_lists *lists = heap->lists;
    for (;;) {
        uint32_t block = lists->head[class];
        if (block == NONE)
            return NONE;
        lists->head[class] = lists->next[block];
        lists->listed[block] = 0;
        if (is_free(heap, block))
            return block;
    }
}

/* The same of the class or of one little larger. */
static uint32_t list_pop_fitting(struct rw_heap *heap, uint32_t class) {
    uint32_t block = NONE;
    for (uint32_t steps = 0; block == NONE && steps <= MOST_STEPS; steps++)
        if (class + steps < RW_HEAP_CLASSES)
            block = list_pop(heap, class + steps);
    return block;
}

int rw_heap_alloc(struct rw_heap *heap, uint64_t length, uint32_t holder, uint32_t *block) {
    return rw_heap_alloc_spare(heap, length, holder, ANY, block);
}

int rw_heap_alloc_spare(struct rw_heap *heap, uint64_t length, uint32_t holder, uint64_t most,
                        uint32_t *block) {
    if (length > heap->data_size)
        return RW_NO_MEMORY;
    uint32_t class = class_of(length);
    uint64_t size = class_size(class);
    class = class_of(size);
    *block = list_pop_fitting(heap, class);
    bool swept = *block == NONE && (size >= ALWAYS_SWEEP_FROM || heap->lists->credit == 0);
    if (swept) {
        sweep(heap);
        *block = list_pop_fitting(heap, class);
    }
    int status = *block == NONE ? make_block(heap, size, most, block) : RW_OK;
    if (status != RW_OK && !swept) { /* rather look everywhere than fail */
        sweep(heap);
        *block = list_pop_fitting(heap, class);
        status = *block == NONE ? status : RW_OK;
    }
    if (status != RW_OK)
        return status;
    if (heap->lists->credit > 0)
        heap->lists->credit--;
    rw_or_release(&heap->blocks[*block].holders[holder / 64], 1ULL << (holder % 64));
    return RW_OK;
}

void rw_heap_refresh(struct rw_heap *heap) {
    struct rw_heap_lists *lists = heap->lists;
    uint32_t count = published(heap), used = count - lists->known;
    for (uint32_t class = 0; class < RW_HEAP_CLASSES; class++)
        while (lists->head[class] != NONE && !is_free(heap, lists->head[class])) {
            lists->listed[lists->head[class]] = 0;
            lists->head[class] = lists->next[lists->head[class]];
            used++;
        }
    if (used >= lists->credit) {
        sweep(heap);
        return;
    }
    lists->credit -= used;
    lists->known = count;
}

int rw_heap_hold(struct rw_heap *heap, uint32_t block, uint32_t holder) {
    if (block >= published(heap))
        return RW_CORRUPT;
    rw_or_release(&heap->blocks[block].holders[holder / 64], 1ULL << (holder % 64));
    /* sync: pairs with is_free's loads; after the bit, so that a count that was seen means a bit
     * that is seen. */
    rw_add_release(&heap->words->holds, 1);
    return RW_OK;
}

int rw_heap_release(struct rw_heap *heap, uint32_t block, uint32_t holder) {
    if (block >= published(heap))
        return RW_CORRUPT;
    struct rw_block *b = &heap->blocks[block];
    /* sync: pairs with is_free's loads; our reads of the data come before the next writer's. */
    rw_and_release(&b->holders[holder / 64], ~(1ULL << (holder % 64)));
    if (heap->lists != NULL && !heap->lists->listed[block] && is_free(heap, block))
        list_push(heap, block);
    return RW_OK;
}

bool rw_heap_holds(const struct rw_heap *heap, uint32_t block, uint32_t holder) {
    if (block >= published(heap))
        return false;
    uint64_t word = rw_load_relaxed(&heap->blocks[block].holders[holder / 64]);
    return word >> (holder % 64) & 1;
}

void rw_heap_forget(struct rw_heap *heap, uint32_t holder) {
    uint32_t count = published(heap);
    for (uint32_t i = 0; i < count; i++)
        if (rw_heap_holds(heap, i, holder))
            rw_heap_release(heap, i, holder);
}

int rw_heap_data(const struct rw_heap *heap, uint64_t offset, uint64_t length, uint8_t **address) {
    uint64_t committed = rw_load_acquire(&heap->words->committed);
    if (committed > heap->data_size || offset > committed || length > committed - offset)
        return RW_CORRUPT;
    *address = heap->data + offset;
    return RW_OK;
}

int rw_heap_at(const struct rw_heap *heap, uint32_t block, uint64_t offset, uint64_t length,
               uint8_t **address) {
    if (block >= published(heap))
        return RW_CORRUPT;
    /* Copy, then check the copy: a broken peer may be writing these. */
    uint64_t start = heap->blocks[block].offset, size = heap->blocks[block].size;
    if (offset > size || length > size - offset || start > heap->data_size)
        return RW_CORRUPT;
    return rw_heap_data(heap, start + offset, length, address);
}

bool rw_heap_find(const struct rw_heap *heap, const void *address, uint32_t *block,
                  uint64_t *offset, uint64_t *size) {
    uint64_t place = (uint64_t)((uintptr_t)address - (uintptr_t)heap->data);
    if (place >= heap->data_size)
        return false;
    /* Blocks are made in order of offset: the last that begins at or before the address. */
    uint32_t first = 0, after = published(heap);
    while (first < after) {
        uint32_t middle = first + (after - first) / 2;
        if (heap->blocks[middle].offset <= place)
            first = middle + 1;
        else
            after = middle;
    }
    if (first == 0)
        return false;
    *block = first - 1;
    *offset = place - heap->blocks[*block].offset;
    *size = heap->blocks[*block].size;
    return *offset < *size;
}

void rw_heap_usage(const struct rw_heap *heap, struct rw_heap_usage *usage) {
    *usage = (struct rw_heap_usage){.blocks = published(heap)};
    usage->committed_bytes = rw_load_relaxed(&heap->words->committed);
    for (uint32_t i = 0; i < usage->blocks; i++)
        if (!is_free(heap, i)) {
            usage->held_blocks++;
            usage->held_bytes += heap->blocks[i].size;
        }
}
