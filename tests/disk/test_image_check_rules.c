/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A9: each rule of SAFETY 3 is the verdict of at least fifty mutants. A row makes `count` mutants of each of the twelve
 * valid images; the row's rule must be the verdict of every one. The table of counts is printed.
 */
#include "disk/test_image_check_seeds.h"

#include <sys/resource.h>
#include <sys/wait.h>

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

/* What a row changes: bytes may be written anywhere in it, size may shrink. */
typedef struct {
    guint8 *bytes;
    gsize size;
    VrImagePolicy policy;
} Mutant;

/* FALSE: this seed has no such mutant. */
typedef gboolean (*Make)(const Seed *seed, guint i, Mutant *m);

static const guint64 wild[] = {1, 511, 4096, 0x7fffffff, 0xffffffff};

/* The values of a row, the last one again for what goes over. */
#define nth(values, i) values[MIN((i), G_N_ELEMENTS(values) - 1)]

/* ---- header ---- */

static gboolean version(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0, 1, 4, 0x100, 0xffffffff};
    put_be(m->bytes, 4, 4, nth(values, i));
    return TRUE;
}

static gboolean cluster_bits(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0, 8, 22, 63, 64, 0xffffffff};
    put_be(m->bytes, 20, 4, nth(values, i));
    return TRUE;
}

static gboolean refcount_order(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {7, 8, 31, 0xffffffff};
    put_be(m->bytes, 96, 4, nth(values, i));
    return seed->header.version == 3;
}

static gboolean header_length(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0, 72, 103, 105, seed->cluster + 8, 0x80000000, 0xffffffff};
    put_be(m->bytes, 100, 4, nth(values, i));
    return seed->header.version == 3;
}

static gboolean compression(const Seed *seed, guint i, Mutant *m)
{
    m->bytes[104] = seed->header.compression_type ? (guint8)(i % 2 ? i + 1 : 0) : (guint8)(i + 1);
    return seed->header.version == 3;
}

/* The first extension becomes another one, `length` bytes long by its own word. */
static void extension(const Seed *seed, Mutant *m, guint32 type, guint64 length)
{
    put_be(m->bytes, seed->header.header_length, 4, type);
    put_be(m->bytes, seed->header.header_length + 4, 4, length);
}

static gboolean extension_length(const Seed *seed, guint i, Mutant *m)
{
    guint64 left = seed->cluster - seed->header.header_length - 8;
    const guint64 values[] = {left + 1, left + 8, seed->cluster, 0x7fffffff, 0xfffffff8, 0xffffffff};
    extension(seed, m, 0x12345678, nth(values, i));
    return TRUE;
}

static gboolean backing_format(const Seed *seed, guint i, Mutant *m)
{
    extension(seed, m, VR_QCOW2_EXT_BACKING_FORMAT, 16 + 8 * (guint64)i);
    return TRUE;
}

static gboolean first_cluster_cut(const Seed *seed, guint i, Mutant *m)
{
    const gsize sizes[] = {4, 8, 71, 100, 300, seed->cluster - 1};
    m->size = nth(sizes, i);
    m->policy = (VrImagePolicy){.format_given = TRUE, .format = VR_FORMAT_QCOW2};
    return TRUE;
}

/* ---- references ---- */

static gboolean backing(const Seed *seed, guint i, Mutant *m)
{
    static const char *const names[] = {"base.qcow2",
                                        "/etc/shadow",
                                        "json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}",
                                        "nbd:127.0.0.1:10809",
                                        "http://127.0.0.1/x",
                                        "fat:/etc",
                                        "/dev/sda",
                                        "/dev/stdin",
                                        "seed.qcow2",
                                        ""};
    guint64 at = seed->cluster / 2;
    const char *name = nth(names, i);
    put_be(m->bytes, 8, 8, *name ? at : 0);
    put_be(m->bytes, 16, 4, *name ? strlen(name) : 1023);
    memcpy(m->bytes + at, name, strlen(name));
    return TRUE;
}

static gboolean data_file(const Seed *seed, guint i, Mutant *m)
{
    if (i >= 4) { /* its name without its bit */
        extension(seed, m, VR_QCOW2_EXT_DATA_FILE, i * 3);
        return TRUE;
    }
    if (i == 3)
        put_be(m->bytes, 88, 8, seed->header.autoclear | 2);
    else
        put_be(m->bytes, 72, 8, seed->header.incompatible | 4 | (guint64)i << 40);
    return seed->header.version == 3;
}

static gboolean encryption(const Seed *seed, guint i, Mutant *m)
{
    if (i >= 4)
        extension(seed, m, VR_QCOW2_EXT_ENCRYPTION, i * 4);
    else
        put_be(m->bytes, 32, 4, i == 3 ? 0xffffffff : i + 1);
    return TRUE;
}

static gboolean snapshots(const Seed *seed, guint i, Mutant *m)
{
    if (i == 0)
        put_be(m->bytes, 64, 8, seed->cluster + 1);
    else
        put_be(m->bytes, 60, 4, nth(wild, i - 1));
    return TRUE;
}

/* ---- feature bits ---- */

static void set_feature(const Seed *seed, Mutant *m, guint64 bits)
{
    put_be(m->bytes, 72, 8, seed->header.incompatible | bits);
}

/* The rest of the bytes must not matter. */
static void elsewhere(const Seed *seed, guint i, Mutant *m)
{
    put_be(m->bytes, 80, 8, G_GUINT64_CONSTANT(0x0101010101010101) * i);
    put_be(m->bytes, seed->size - 8, 8, i);
}

static gboolean dirty(const Seed *seed, guint i, Mutant *m)
{
    set_feature(seed, m, 1);
    elsewhere(seed, i, m);
    return seed->header.version == 3;
}

static gboolean corrupt(const Seed *seed, guint i, Mutant *m)
{
    set_feature(seed, m, i % 2 ? 3 : 2);
    elsewhere(seed, i, m);
    return seed->header.version == 3;
}

static gboolean unknown_feature(const Seed *seed, guint i, Mutant *m)
{
    set_feature(seed, m, G_GUINT64_CONSTANT(1) << (5 + i));
    return seed->header.version == 3;
}

/* ---- tables ---- */

static gboolean l1_place(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0,
                              seed->header.l1_offset + 8,
                              seed->header.reftable_offset,
                              (seed->size + seed->cluster - 1) / seed->cluster * seed->cluster,
                              G_GUINT64_CONSTANT(1) << 62,
                              G_MAXUINT64 - seed->cluster + 1};
    put_be(m->bytes, 40, 8, nth(values, i));
    return TRUE;
}

static gboolean l1_entries(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0x80000000, 0xffffffff, 4194305, 4000000};
    put_be(m->bytes, 36, 4, nth(values, i));
    return TRUE;
}

static gboolean reftable(const Seed *seed, guint i, Mutant *m)
{
    const guint64 places[] = {0, seed->header.reftable_offset + 64,
                              seed->size / seed->cluster * seed->cluster + seed->cluster, G_GUINT64_CONSTANT(1) << 50};
    if (i < 4)
        put_be(m->bytes, 48, 8, places[i]);
    else
        put_be(m->bytes, 56, 4, i == 4 ? 0 : 0xffffffff - i);
    return TRUE;
}

/* An entry at `at` points to places where no block may be. */
static void wrong_place(const Seed *seed, guint i, Mutant *m, guint64 at)
{
    const guint64 places[] = {seed->header.l1_offset,
                              seed->header.reftable_offset,
                              512,
                              seed->l2 + 512 + 1024,
                              G_GUINT64_CONSTANT(1) << 45,
                              seed->size / seed->cluster * seed->cluster + seed->cluster};
    guint64 place = nth(places, i);
    if (i == 2 && seed->cluster == 512) /* that is no header there */
        place = G_GUINT64_CONSTANT(1) << 55;
    if (i == 3 && seed->cluster == 512)
        place = G_GUINT64_CONSTANT(1) << 54;
    put_be(m->bytes, at, 8, place);
}

static gboolean l2_place(const Seed *seed, guint i, Mutant *m)
{
    wrong_place(seed, i, m, seed->header.l1_offset);
    return TRUE;
}

static gboolean refblock_place(const Seed *seed, guint i, Mutant *m)
{
    if (i == 6)
        put_be(m->bytes, seed->header.reftable_offset, 8, seed->l2);
    else if (i == 7) /* the first one a second time, in the last entry */
        put_be(m->bytes, seed->header.reftable_offset + seed->header.reftable_clusters * seed->cluster - 8, 8,
               seed->refblock);
    else
        wrong_place(seed, i, m, seed->header.reftable_offset);
    return TRUE;
}

static gboolean data_place(const Seed *seed, guint i, Mutant *m)
{
    if (i < 6)
        wrong_place(seed, i, m, seed->l2);
    else
        put_be(m->bytes, seed->l2, 8, i == 6 ? seed->l2 : seed->refblock);
    if (seed->entry == 16)
        put_be(m->bytes, seed->l2 + 8, 8, 0xffffffff);
    return TRUE;
}

static gboolean subclusters(const Seed *seed, guint i, Mutant *m)
{
    if (i % 2)
        put_be(m->bytes, seed->l2 + 8, 8, G_GUINT64_CONSTANT(0x100000001) << i);
    else
        put_be(m->bytes, seed->l2 + 16 * 20, 16, G_GUINT64_CONSTANT(1) << i);
    return seed->entry == 16;
}

static gboolean cut(const Seed *seed, guint i, Mutant *m)
{
    gsize last = seed->size - seed->size % 512;
    m->size = i == 0 ? last - 1 : MAX(last - i * last / 12, seed->cluster);
    return !strstr(seed->what, "metadata") && !seed->bitmaps_extension && seed->entry == 8;
}

/* ---- sizes ---- */

static gboolean size(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0,
                              1,
                              SEED_SIZE - 1,
                              G_GUINT64_CONSTANT(1) << 62,
                              (G_GUINT64_CONSTANT(64) << 40) + 512,
                              G_MAXUINT64 - 511,
                              G_GUINT64_CONSTANT(1) << 45};
    put_be(m->bytes, 24, 8, nth(values, i));
    return TRUE;
}

/* An L1 table that is too small for the size. */
static gboolean l1_small(const Seed *seed, guint i, Mutant *m)
{
    put_be(m->bytes, 36, 4, 0);
    return TRUE;
}

/* ---- compressed ---- */

static gboolean compressed(const Seed *seed, guint i, Mutant *m)
{
    guint64 at = seed->l2 + (seed->cluster / seed->entry - 1) / (i + 1) * seed->entry;
    put_be(m->bytes, at, 8, G_GUINT64_CONSTANT(1) << 62 | seed->cluster);
    if (seed->entry == 16)
        put_be(m->bytes, at + 8, 8, 0);
    return TRUE;
}

static gboolean compressed_outside(const Seed *seed, guint i, Mutant *m)
{
    const guint64 values[] = {0, 100, seed->size + 512, (G_GUINT64_CONSTANT(1) << 41) + 512,
                              G_GUINT64_CONSTANT(0x3fffffffffffffff)};
    put_be(m->bytes, seed->l2, 8, G_GUINT64_CONSTANT(1) << 62 | nth(values, i));
    if (seed->entry == 16)
        put_be(m->bytes, seed->l2 + 8, 8, i);
    m->policy.allow_compressed = TRUE;
    return TRUE;
}

/* ---- bitmaps ---- */

static gboolean bitmaps(const Seed *seed, guint i, Mutant *m)
{
    guint64 ext = seed->bitmaps_extension;
    const struct {
        guint64 at;
        int width;
        guint64 value;
    } rows[] = {
        {ext - 4, 4, 16}, {ext, 4, 0},          {ext, 4, 65536},         {ext, 4, 3},
        {ext, 4, 1},      {ext, 4, 0xffffffff}, {ext + 4, 4, 1},         {ext + 8, 8, 0},
        {ext + 8, 8, 23}, {ext + 8, 8, 24},     {ext + 8, 8, 0x4000001}, {ext + 8, 8, G_MAXUINT64},
        {ext + 8, 8, 40},
    };
    if (!ext || i >= G_N_ELEMENTS(rows))
        return FALSE;
    put_be(m->bytes, rows[i].at, rows[i].width, rows[i].value);
    return TRUE;
}

static gboolean bitmap_entry(const Seed *seed, guint i, Mutant *m)
{
    if (!seed->bitmaps_extension)
        return FALSE;
    guint64 entry = vr_be64(seed->bytes + seed->bitmaps_extension + 16);
    const struct {
        guint64 at;
        int width;
        guint64 value;
    } rows[] = {
        {entry + 8, 4, 2},     {entry + 8, 4, 48},          {entry + 8, 4, 0},    {entry + 8, 4, 0x8000001},
        {entry + 12, 4, 4},    {entry + 12, 4, 0x80000000}, {entry + 16, 1, 0},   {entry + 16, 1, 2},
        {entry + 17, 1, 8},    {entry + 17, 1, 32},         {entry + 17, 1, 255}, {entry + 18, 2, 0},
        {entry + 18, 2, 1024}, {entry + 18, 2, 65535},      {entry + 20, 4, 1},   {entry + 20, 4, 0xffffffff},
    };
    put_be(m->bytes, nth(rows, i).at, nth(rows, i).width, nth(rows, i).value);
    return TRUE;
}

static gboolean bitmap_place(const Seed *seed, guint i, Mutant *m)
{
    guint64 ext = seed->bitmaps_extension, entry = ext ? vr_be64(seed->bytes + ext + 16) : 0;
    if (!ext)
        return FALSE;
    const guint64 places[] = {
        0, 8, seed->header.l1_offset, seed->header.reftable_offset, G_GUINT64_CONSTANT(1) << 50, G_MAXUINT64};
    put_be(m->bytes, i % 2 ? ext + 16 : entry, 8, nth(places, i / 2));
    return TRUE;
}

static gboolean bitmap_table(const Seed *seed, guint i, Mutant *m)
{
    if (!seed->bitmaps_extension)
        return FALSE;
    guint64 table = vr_be64(seed->bytes + vr_be64(seed->bytes + seed->bitmaps_extension + 16));
    put_be(m->bytes, table, 8, i % 2 ? seed->l2 | 1 : G_GUINT64_CONSTANT(1) << (57 + i / 2));
    return TRUE;
}

static gboolean bitmap_data(const Seed *seed, guint i, Mutant *m)
{
    if (!seed->bitmaps_extension)
        return FALSE;
    guint64 table = vr_be64(seed->bytes + vr_be64(seed->bytes + seed->bitmaps_extension + 16));
    const guint64 places[] = {seed->header.l1_offset, seed->header.reftable_offset, 512, G_GUINT64_CONSTANT(1) << 50};
    put_be(m->bytes, table, 8, nth(places, i));
    return TRUE;
}

/* ---- formats ---- */

static gboolean foreign_footer(const Seed *seed, guint i, Mutant *m)
{
    static const char *const magics[] = {"conectix", "koly"};
    memcpy(m->bytes + seed->size - 512 + (i == 2), magics[i == 1], strlen(magics[i == 1]));
    return TRUE;
}

static gboolean foreign(const Seed *seed, guint i, Mutant *m)
{
    static const char *const magics[] = {
        "KDMV", "COWD", "vhdxfile", "conectix", "QED", "WithoutFreeSpace", "Bochs Virtual HD Image"};
    static const char *const names[] = {"a.qcow2", "a.raw", "a.img", NULL};
    m->size -= m->size % 512;
    memcpy(m->bytes, nth(magics, i), strlen(nth(magics, i)) + (i == 4));
    m->policy.file_name = names[i % 4];
    return TRUE;
}

static gboolean promise(const Seed *seed, guint i, Mutant *m)
{
    if (i % 2)
        m->policy = (VrImagePolicy){.format_given = TRUE, .format = VR_FORMAT_RAW};
    else
        m->policy = (VrImagePolicy){.file_name = i ? "a.RAW" : "a.raw"};
    return TRUE;
}

static gboolean luks(const Seed *seed, guint i, Mutant *m)
{
    static const char *const names[] = {"a.qcow2", "a.raw", "a.img", NULL};
    memcpy(m->bytes, "LUKS\xba\xbe\0\1", 8);
    m->bytes[7] = (guint8)(i / 4);
    m->policy.file_name = names[i % 4];
    return TRUE;
}

static gboolean nothing(const Seed *seed, guint i, Mutant *m)
{
    const gsize sizes[] = {0, 1, 2, 3, 100, 511};
    m->size = nth(sizes, i);
    memset(m->bytes, 0, m->size);
    return TRUE;
}

/* ---- the table ---- */

static const struct {
    const char *what;
    VrImageRule rule;
    Make make;
    guint count; /* mutants of a seed */
} rows[] = {
    {"version", VR_RULE_HEADER, version, 5},
    {"cluster bits", VR_RULE_HEADER, cluster_bits, 6},
    {"refcount order", VR_RULE_HEADER, refcount_order, 4},
    {"header length", VR_RULE_HEADER, header_length, 7},
    {"compression type", VR_RULE_HEADER, compression, 5},
    {"extension length", VR_RULE_HEADER, extension_length, 6},
    {"backing format", VR_RULE_HEADER, backing_format, 5},
    {"cut in the first cluster", VR_RULE_HEADER, first_cluster_cut, 6},
    {"backing file", VR_RULE_BACKING_FILE, backing, 10},
    {"data file", VR_RULE_DATA_FILE, data_file, 8},
    {"encryption", VR_RULE_ENCRYPTION, encryption, 8},
    {"LUKS", VR_RULE_ENCRYPTION, luks, 8},
    {"snapshots", VR_RULE_SNAPSHOTS, snapshots, 6},
    {"dirty", VR_RULE_DIRTY, dirty, 8},
    {"corrupt", VR_RULE_CORRUPT, corrupt, 8},
    {"unknown feature", VR_RULE_UNKNOWN_FEATURE, unknown_feature, 59},
    {"L1 table's place", VR_RULE_TABLES, l1_place, 6},
    {"L1 table's entries", VR_RULE_TABLES, l1_entries, 4},
    {"refcount table", VR_RULE_TABLES, reftable, 7},
    {"L2 table's place", VR_RULE_TABLES, l2_place, 6},
    {"refcount block's place", VR_RULE_TABLES, refblock_place, 8},
    {"data cluster's place", VR_RULE_TABLES, data_place, 8},
    {"subclusters", VR_RULE_TABLES, subclusters, 12},
    {"truncation", VR_RULE_TABLES, cut, 12},
    {"compressed outside", VR_RULE_TABLES, compressed_outside, 5},
    {"bitmap's place", VR_RULE_TABLES, bitmap_place, 12},
    {"bitmap's data", VR_RULE_TABLES, bitmap_data, 4},
    {"size", VR_RULE_SIZE, size, 7},
    {"L1 table too small", VR_RULE_SIZE, l1_small, 1},
    {"compressed", VR_RULE_COMPRESSED, compressed, 8},
    {"bitmaps extension", VR_RULE_BITMAPS, bitmaps, 13},
    {"bitmap entry", VR_RULE_BITMAPS, bitmap_entry, 16},
    {"bitmap table", VR_RULE_BITMAPS, bitmap_table, 14},
    {"a footer", VR_RULE_FORMAT, foreign_footer, 3},
    {"another magic", VR_RULE_FORMAT, foreign, 7},
    {"a promise", VR_RULE_FORMAT, promise, 3},
    {"nothing", VR_RULE_EMPTY, nothing, 6},
};

static gboolean try_one(const Seed *seed, gsize row, guint i)
{
    GError *error = NULL;
    VrImageVerdict verdict;
    g_autofree guint8 *bytes = g_memdup2(seed->bytes, seed->size);
    Mutant m = {.bytes = bytes, .size = seed->size};
    if (!rows[row].make(seed, i, &m))
        return FALSE;
    Memory memory = {.bytes = m.bytes, .size = m.size};
    if (!check_memory(&memory, &m.policy, &verdict, &error))
        fail_msg("%s", error->message);
    if (verdict.accepted || verdict.rule != rows[row].rule || !*verdict.reason)
        fail_msg("%s %u of %s: %s (%s) where %s was expected", rows[row].what, i, seed->what,
                 vr_image_rule_name(verdict.rule), verdict.reason, vr_image_rule_name(rows[row].rule));
    return TRUE;
}

static void each_rule_is_the_verdict_of_fifty_mutants(void **state)
{
    guint counts[VR_RULE_LAST_] = {0};
    for (gsize row = 0; row < G_N_ELEMENTS(rows); row++)
        for (gsize s = 0; s < N_SEEDS; s++)
            for (guint i = 0; i < rows[row].count; i++)
                counts[rows[row].rule] += try_one(&seeds[s], row, i);
    for (int rule = VR_RULE_NONE + 1; rule < VR_RULE_TOOL_CORRUPT; rule++) {
        print_message("%4u mutants: %s\n", counts[rule], vr_image_rule_name((VrImageRule)rule));
        assert_true(counts[rule] >= 50);
    }
}

/* ---- what a refusal may cost ---- */

/* In a child that can open nothing, write nothing, and has 64 MiB and a second more. */
static int refuse_all_in_a_cage(void)
{
    int one_more = dup(STDIN_FILENO);
    if (one_more < 0 || setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)one_more, (rlim_t)one_more}) < 0 ||
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0}) < 0 || setrlimit(RLIMIT_CPU, &(struct rlimit){1, 1}) < 0)
        return 2;
#ifndef __SANITIZE_ADDRESS__
    if (setrlimit(RLIMIT_DATA, &(struct rlimit){96 * MIB, 96 * MIB}) < 0) /* 32 for what the test itself has */
        return 3;
#endif
    const Make by_header[] = {version, header_length, l1_entries, size, reftable, backing, snapshots, encryption};
    guint8 *bytes = g_malloc(seeds[1].size);
    for (guint n = 0; n < 40; n++) {
        VrImageVerdict verdict;
        memcpy(bytes, seeds[1].bytes, seeds[1].size);
        Mutant m = {.bytes = bytes, .size = seeds[1].size};
        by_header[n % 8](&seeds[1], n / 8, &m);
        Memory memory = {.bytes = m.bytes, .size = m.size};
        if (!check_memory(&memory, NULL, &verdict, NULL) || verdict.accepted || memory.reads > 4)
            return 4;
    }
    return 0;
}

static void a_refusal_by_the_header_costs_nothing(void **state)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(refuse_all_in_a_cage());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_is_the_verdict_of_fifty_mutants),
        cmocka_unit_test(a_refusal_by_the_header_costs_nothing),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
