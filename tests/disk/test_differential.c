/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A9: thousands of mutants of valid images, to us and to QEMU: what QEMU does not open and read, we never accept. Every mutant
 * that we accept is opened and read from its first to its last byte by qemu-io, in batches, so that a process start is
 * shared; of those that we refuse, one in 64 is opened too, only to count how often we are the stricter.
 *
 * VR_SEED=N repeats or changes the run (it is printed); VR_FULL=1 takes minutes instead of seconds.
 */
#include "disk/test_image_check_seeds.h"

#define BATCH 48
#define SECONDS_NORMAL 12
#define SECONDS_FULL 240
#define MUTANTS_AT_LEAST 3000
#define READ_LIMIT (G_GUINT64_CONSTANT(16) << 20) /* of a disk at each of its ends */

static Seed seeds[N_SEEDS];

static int group_setup(void **state)
{
    seeds_make(seeds);
    return 0;
}

static int group_teardown(void **state)
{
    seeds_clear(seeds);
    return 0;
}

/* ---- mutants ---- */

typedef struct {
    GRand *random;
    const Seed *seed;
    guint8 *bytes;
    gsize size;
} Mutation;

static guint32 below(Mutation *m, guint32 limit)
{
    return g_rand_int(m->random) % limit;
}

/* Where a header, a table or an extension has a field. */
static guint64 some_place(Mutation *m, int *width)
{
    static const guint8 fields[][2] = {{4, 4},  {8, 8},  {16, 4}, {20, 4}, {24, 8},  {32, 4},
                                       {36, 4}, {40, 8}, {48, 8}, {56, 4}, {60, 4},  {64, 8},
                                       {72, 8}, {80, 8}, {88, 8}, {96, 4}, {100, 4}, {104, 1}};
    const Seed *seed = m->seed;
    const guint64 tables[] = {seed->header.l1_offset,
                              seed->header.reftable_offset,
                              seed->l2,
                              seed->l2,
                              seed->l2,
                              seed->refblock,
                              seed->header.header_length,
                              seed->header.header_length,
                              seed->bitmaps_extension ? seed->bitmaps_extension - 8 : seed->l2,
                              seed->bitmaps_extension ? vr_be64(seed->bytes + seed->bitmaps_extension + 16) : 0};
    if (below(m, 3) == 0) {
        const guint8 *field = fields[below(m, G_N_ELEMENTS(fields))];
        *width = field[1];
        return field[0];
    }
    static const int widths[] = {1, 2, 4, 8, 8, 8};
    *width = widths[below(m, G_N_ELEMENTS(widths))];
    guint64 slots = below(m, 4) ? 16 : seed->cluster / 8;
    return tables[below(m, G_N_ELEMENTS(tables))] + below(m, (guint32)slots) * 8;
}

/* A value that means something near one of the limits, or that is another place in the file. */
static guint64 some_value(Mutation *m, guint64 old)
{
    const Seed *seed = m->seed;
    guint64 cluster = below(m, (guint32)(seed->size / seed->cluster + 2)) * seed->cluster;
    switch (below(m, 10)) {
    case 0:
        return 0;
    case 1:
        return old + 1 - below(m, 3);
    case 2:
        return old ^ G_GUINT64_CONSTANT(1) << below(m, 64);
    case 3:
        return G_MAXUINT64 >> below(m, 64);
    case 4:
        return cluster;
    case 5:
        return cluster | G_GUINT64_CONSTANT(1) << 63;
    case 6:
        return (cluster + 512 * below(m, 3)) | G_GUINT64_CONSTANT(1) << 62;
    case 7:
        return (guint64)g_rand_int(m->random) << 32 | g_rand_int(m->random);
    case 8:
        return below(m, 300);
    default:
        return old * 2;
    }
}

static void change_field(Mutation *m)
{
    int width;
    guint64 at = some_place(m, &width);
    if (at + 8 <= m->size)
        put_be(m->bytes, at, width, some_value(m, get_be(m->bytes, at, width)));
}

static void change_byte(Mutation *m)
{
    int width;
    guint64 at = some_place(m, &width) + below(m, 8);
    if (at < m->size)
        m->bytes[at] ^= (guint8)(1u << below(m, 8));
}

static void insert_extension(Mutation *m)
{
    static const guint32 types[] = {VR_QCOW2_EXT_BACKING_FORMAT, VR_QCOW2_EXT_BITMAPS,   0x6803f857, 0x12345678,
                                    VR_QCOW2_EXT_DATA_FILE,      VR_QCOW2_EXT_ENCRYPTION};
    guint32 at = m->seed->header.header_length;
    put_be(m->bytes, at, 4, types[below(m, G_N_ELEMENTS(types))]);
    put_be(m->bytes, at + 4, 4, below(m, 4) ? below(m, 48) : some_value(m, m->seed->cluster));
}

/* An entry of a table becomes a copy of another. */
static void copy_entry(Mutation *m)
{
    int width;
    guint64 from = some_place(m, &width) & ~G_GUINT64_CONSTANT(7), to = some_place(m, &width) & ~G_GUINT64_CONSTANT(7);
    if (from + 8 <= m->size && to + 8 <= m->size)
        memmove(m->bytes + to, m->bytes + from, 8);
}

static void truncate_it(Mutation *m)
{
    gsize unit = below(m, 2) ? m->seed->cluster : 1;
    m->size -= MIN(m->size - 1, unit * below(m, (guint32)CLAMP(m->size / unit, 1, 4096)));
}

static void mutate(Mutation *m)
{
    static void (*const ways[])(Mutation *) = {change_field, change_field, change_field,     change_field, change_byte,
                                               change_byte,  copy_entry,   insert_extension, truncate_it};
    guint changes = 1 + below(m, 3);
    for (guint i = 0; i < changes; i++)
        ways[below(m, G_N_ELEMENTS(ways))](m);
}

/* ---- QEMU's opinion ---- */

typedef struct {
    const TestDir *dir;
    guint n; /* files in the batch */
    guint64 sizes[BATCH];
    guint asked;
} Batch;

static void add_read(GPtrArray *argv, guint64 offset, guint64 length)
{
    g_ptr_array_add(argv, g_strdup("-c"));
    g_ptr_array_add(argv, g_strdup_printf("read %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, offset, length));
}

static guint add_file(const Batch *batch, GPtrArray *argv, guint i)
{
    guint64 size = batch->sizes[i], head = MIN(size, READ_LIMIT);
    g_ptr_array_add(argv, g_strdup("-c"));
    g_ptr_array_add(argv, g_strdup_printf("open -r -o driver=qcow2 %s/%u.qcow2", batch->dir->path, i));
    add_read(argv, 0, head);
    if (size > head)
        add_read(argv, size - head, head);
    g_ptr_array_add(argv, g_strdup("-c"));
    g_ptr_array_add(argv, g_strdup("close"));
    return size > head ? 2 : 1;
}

/* Opens and reads files first..last-1: TRUE when QEMU could do all of it. *said: what it said else. */
static gboolean qemu_reads(const Batch *batch, guint first, guint last, char **said)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_auto(VrChildResult) result = {0};
    GError *error = NULL;
    guint expected = 0, seen = 0;
    g_ptr_array_add(argv, g_strdup("qemu-io"));
    for (guint i = first; i < last; i++)
        expected += add_file(batch, argv, i);
    g_ptr_array_add(argv, NULL);
    const VrChildLimits limits = {.timeout_ms = 120000, .max_memory = 2048L * MIB};
    if (!vr_child_run((const char *const *)argv->pdata, &limits, &result, &error)) {
        *said = g_strdup(error->message);
        g_clear_error(&error);
        return FALSE;
    }
    for (const char *at = result.out; (at = strstr(at, " bytes at offset ")); at++)
        seen++;
    *said = seen == expected ? NULL : g_strconcat(result.out, result.err, NULL);
    return seen == expected;
}

static void keep_for_a_person(const Batch *batch, guint i)
{
    g_autofree char *name = g_strdup_printf("%s/%u.qcow2", batch->dir->path, i);
    tool("cp", name, "/tmp/differential.qcow2");
}

static void flush(Batch *batch)
{
    char *said = NULL;
    if (batch->n > 0 && !qemu_reads(batch, 0, batch->n, &said)) {
        g_free(said);
        for (guint i = 0; i < batch->n; i++) {
            if (qemu_reads(batch, i, i + 1, &said))
                continue;
            keep_for_a_person(batch, i);
            fail_msg("QEMU does not read what we accept (/tmp/differential.qcow2): %s", said);
        }
        fail_msg("QEMU reads each of a batch but not all of them together");
    }
    batch->asked += batch->n;
    batch->n = 0;
}

static void put_mutant(const Batch *batch, guint i, const Mutation *m)
{
    char name[32];
    g_snprintf(name, sizeof name, "%u.qcow2", i);
    vr_autofd fd = vr_open_beneath(batch->dir->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600, NULL);
    assert_true(vr_write_all(fd, m->bytes, m->size, name, NULL));
}

/* ---- the run ---- */

typedef struct {
    guint mutants, accepted, refused, asked_refused, stricter;
} Counts;

/* How often QEMU opens what we refuse; says nothing about either. */
static void ask_about_refused(Batch *batch, const Mutation *m, Counts *counts)
{
    char *said = NULL;
    const guint64 size = batch->sizes[BATCH - 1];
    if (batch->n == BATCH - 1)
        return; /* its place is taken */
    batch->sizes[BATCH - 1] = 512;
    put_mutant(batch, BATCH - 1, m);
    counts->asked_refused++;
    counts->stricter += qemu_reads(batch, BATCH - 1, BATCH, &said);
    batch->sizes[BATCH - 1] = size;
    g_free(said);
}

static void try_mutant(Batch *batch, const Mutation *m, Counts *counts)
{
    GError *error = NULL;
    VrImageVerdict verdict;
    Memory memory = {.bytes = m->bytes, .size = m->size};
    const VrImagePolicy policy = {
        .format_given = TRUE, .format = VR_FORMAT_QCOW2, .max_virtual_size = G_GUINT64_CONSTANT(1) << 60};
    if (!check_memory(&memory, &policy, &verdict, &error))
        fail_msg("%s", error->message);
    counts->mutants++;
    counts->accepted += verdict.accepted;
    counts->refused += !verdict.accepted;
    if (!verdict.accepted) {
        if (counts->refused % 64 == 0)
            ask_about_refused(batch, m, counts);
        return;
    }
    batch->sizes[batch->n] = verdict.virtual_size;
    put_mutant(batch, batch->n++, m);
    if (batch->n == BATCH)
        flush(batch);
}

static guint32 run_seed(void)
{
    const char *given = g_getenv("VR_SEED");
    return given ? (guint32)g_ascii_strtoull(given, NULL, 10) : 20261122;
}

static void what_qemu_does_not_read_is_never_accepted(void **state)
{
    gboolean full = g_strcmp0(g_getenv("VR_FULL"), "1") == 0;
    gint64 end = g_get_monotonic_time() + (full ? SECONDS_FULL : SECONDS_NORMAL) * G_USEC_PER_SEC;
    g_autoptr(GRand) random = g_rand_new_with_seed(run_seed());
    Batch batch = {.dir = *state};
    Counts counts = {0};
    while (counts.mutants < MUTANTS_AT_LEAST || g_get_monotonic_time() < end) {
        const Seed *seed = &seeds[counts.mutants % N_SEEDS];
        g_autofree guint8 *bytes = g_memdup2(seed->bytes, seed->size);
        Mutation m = {random, seed, bytes, seed->size};
        mutate(&m);
        try_mutant(&batch, &m, &counts);
    }
    flush(&batch);
    print_message(
        "seed %u: %u mutants, %u refused, %u accepted and %u of them read by QEMU; of %u refused ones QEMU opens %u\n",
        run_seed(), counts.mutants, counts.refused, counts.accepted, batch.asked, counts.asked_refused,
        counts.stricter);
    assert_int_equal(batch.asked, counts.accepted);
    assert_true(counts.accepted > 300 && counts.refused > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(what_qemu_does_not_read_is_never_accepted),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
