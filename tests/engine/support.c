/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/support.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/durable.h"
#include "base/fd.h"
#include "engine/console_log.h"
#include "hv/domain_xml.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <time.h>

#define DISK_BYTES (1024 * 1024)

const VrStopPolicy world_stop = {.method = VR_STOP_ACPI, .timeout_ms = 200, .force = TRUE};

static const char domain_xml[] =
    "<domain type='qemu'><name>fake</name><uuid>" FAKE_UUID "</uuid><memory unit='KiB'>16384</memory>"
    "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw' discard='unmap'/><source file='%s'/>"
    "<target dev='vda' bus='virtio'/><serial>OS01</serial>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
    "<target dev='vdb' bus='virtio'/><serial>DATA01</serial>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></disk>"
    "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
    "</devices></domain>";

static void make_disk(const char *path, char fill)
{
    g_autofree char *bytes = g_strnfill(DISK_BYTES, fill);

    g_assert_true(g_file_set_contents_full(path, bytes, DISK_BYTES, G_FILE_SET_CONTENTS_NONE, 0640, NULL));
}

static void digest_of(const char *bytes, char digest[VR_DIGEST_HEX_LENGTH + 1])
{
    g_autofree char *hex = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)bytes, DISK_BYTES);

    g_strlcpy(digest, hex, VR_DIGEST_HEX_LENGTH + 1);
}

char *world_image_file(World *world, char fill)
{
    g_autofree char *name = g_strdup_printf("image-%c.raw", fill);
    char *file = g_build_filename(world->top, name, NULL);

    if (!g_file_test(file, G_FILE_TEST_EXISTS))
        make_disk(file, fill);
    return file;
}

gboolean world_publish(World *world, const char *version, char fill, GError **error)
{
    g_autofree char *file = world_image_file(world, fill);
    VrPublication publication = {.name = "os", .version = version, .file = file, .as_given = TRUE, .as = VR_FORMAT_RAW};
    gboolean already;

    return vr_store_publish(world->store, &publication, NULL, &already, error);
}

World *world_attach(const char *top)
{
    World *world = g_new0(World, 1);
    g_autofree char *same = g_strnfill(DISK_BYTES, 'O');

    world->top = g_strdup(top);
    world->root = g_build_filename(top, "root", NULL);
    world->hv_dir = g_build_filename(top, "hv", NULL);
    world->old_path = g_build_filename(top, "old.raw", NULL);
    world->data_path = g_build_filename(top, "data.raw", NULL);
    digest_of(same, world->old_digest);
    memset(same, 'D', DISK_BYTES);
    digest_of(same, world->data_digest);
    return world;
}

World *world_make(const char *top, gboolean running)
{
    World *world = world_attach(top);
    g_autofree char *xml = NULL;

    g_assert_cmpint(g_mkdir(world->hv_dir, 0700), ==, 0);
    make_disk(world->old_path, 'O');
    make_disk(world->data_path, 'D');
    xml = g_strdup_printf(domain_xml, world->old_path, world->data_path);
    fake_hv_free(fake_hv_new(world->hv_dir, xml, running));
    world->store = vr_store_open(world->root, FALSE, NULL);
    g_assert_nonnull(world->store);
    g_assert_true(world_publish(world, "2.0.0", 'N', NULL));
    vr_store_close(world->store);
    world_open(world);
    return world;
}

World *world_new(gboolean running)
{
    g_autofree char *top = g_dir_make_tmp("vr-engine-XXXXXX", NULL);

    return world_make(top, running);
}

World *world_new_uefi(gboolean running, const char *os, gboolean fresh)
{
    World *world = world_new(FALSE);
    g_autofree char *path = strstr(os, "%s") ? g_build_filename(world->top, "old.nvram", NULL)
                                             : g_build_filename(world->hv_dir, FAKE_NVRAM, NULL);
    g_autofree char *bytes = g_strnfill(FAKE_NVRAM_BYTES, 'V');
    g_auto(GStrv) parts = g_strsplit(os, "%s", 2);
    g_autofree char *filled = g_strjoinv(path, parts);
    g_autofree char *element = g_strconcat("hvm</type>", filled, NULL);

    if (!fresh)
        g_assert_true(g_file_set_contents_full(path, bytes, FAKE_NVRAM_BYTES, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    fake_hv_edit(world->fake, "hvm</type>", element);
    if (running)
        g_assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    world->fake->starts = world->fake->point = 0;
    return world;
}

void world_open(World *world)
{
    g_autoptr(GError) error = NULL;

    world->store = vr_store_open(world->root, FALSE, &error);
    g_assert_no_error(error);
    world->journal = vr_journal_new(vr_store_db(world->store), &error);
    g_assert_no_error(error);
    world->owner = vr_owner_acquire(world->journal, vr_store_root_fd(world->store), "shop", "test", &error);
    g_assert_no_error(error);
    world->image = vr_store_get(world->store, "os", "latest", &error);
    g_assert_no_error(error);
    world->fake = fake_hv_new(world->hv_dir, NULL, FALSE);
    world->fake->run_dir = g_strdup(world->run_dir);
    world->engine =
        (VrEngine){.store = world->store, .hv = &world->fake->hv, .journal = world->journal, .owner = world->owner};
}

void world_close(World *world)
{
    g_clear_pointer(&world->seat, vr_clone_seat_free);
    g_clear_pointer(&world->owner, vr_owner_release);
    g_clear_pointer(&world->image, vr_image_free);
    g_clear_pointer(&world->journal, vr_journal_free);
    g_clear_pointer(&world->store, vr_store_close);
    g_clear_pointer(&world->fake, fake_hv_free);
}

void world_free(World *world)
{
    const char *argv[] = {"rm", "-rf", "--", world->top, NULL};

    world_close(world);
    vr_child_run(argv, NULL, NULL, NULL);
    world_detach(world);
}

void world_detach(World *world)
{
    world_close(world);
    g_free(world->run_dir);
    g_free(world->top);
    g_free(world->root);
    g_free(world->hv_dir);
    g_free(world->old_path);
    g_free(world->data_path);
    g_free(world);
}

static gint64 skipped_ms;

static gint64 jumping_now_ms(void *data)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 + skipped_ms;
}

static void jump(gint64 deadline_ms, void *data)
{
    skipped_ms += MAX(0, deadline_ms - jumping_now_ms(NULL)) + 200;
}

void world_skip_waiting(gint64 (*wall_us)(void *data))
{
    static VrClockSource source = {jumping_now_ms, NULL, jump, NULL};

    source.wall_us = wall_us;
    vr_clock_set_source(&source);
}

static gint64 quick_ms = 1000000;

static gint64 quick_now(void *data)
{
    return __atomic_add_fetch(&quick_ms, 1, __ATOMIC_SEQ_CST);
}

static gint64 quick_wall(void *data)
{
    return __atomic_load_n(&quick_ms, __ATOMIC_SEQ_CST) * 1000;
}

static void quick_sleep(gint64 deadline_ms, void *data)
{
    world_quick_pass(MAX(0, deadline_ms + 200 - quick_now(NULL)));
}

void world_quick_clock(void)
{
    static const VrClockSource quick = {quick_now, quick_wall, quick_sleep, NULL};

    vr_clock_set_source(&quick);
}

void world_quick_pass(gint64 ms)
{
    __atomic_add_fetch(&quick_ms, ms, __ATOMIC_SEQ_CST);
}

VrSwap *world_reach(World *world, VrSwapState state)
{
    g_autoptr(GError) error = NULL;
    VrSwap *swap = world_begin(world, -1, &error);

    g_assert_no_error(error);
    if (state > VR_SWAP_PLANNED)
        g_assert_true(vr_swap_advance(swap, state, &world_stop, &error));
    return swap;
}

void world_commit(VrSwap *swap)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_swap_commit(swap, NULL, &error));
}

void world_undo(VrSwap *swap)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_swap_undo(swap, "not healthy", &error));
}

void world_expect_console(World *world, const VrSwapRow *row, const char *expected)
{
    gsize length;
    g_autofree char *bytes = vr_console_log_read(world->store, row, &length);
    g_autofree char *text = bytes ? g_strndup(bytes, length) : NULL;

    g_assert_cmpstr(text, ==, expected);
}

void world_run_sql(World *world, const char *sql)
{
    VrDb *db = vr_journal_db(world->journal);

    g_assert_true(vr_db_begin(db, NULL));
    g_assert_true(vr_db_run(db, NULL, NULL, sql, ""));
    g_assert_true(vr_db_commit(db, NULL));
}

guint world_recover_once(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < recovered->len; i++) {
        const VrRecovered *one = g_ptr_array_index(recovered, i);
        g_autoptr(VrSwap) swap = NULL;
        fprintf(stderr, "%s\n", one->told);
        if (one->row->state != VR_SWAP_STARTED)
            continue;
        swap = vr_swap_resume(&world->engine, one->row, NULL);
        g_assert_true(vr_swap_commit(swap, NULL, &error));
    }
    return recovered->len;
}

static VrSwap *begin_in_run(World *world, int to_generation, const char *run_id, GError **error)
{
    g_clear_pointer(&world->seat, vr_clone_seat_free);
    if (world->full)
        vr_clone_seats_new(&world->seat, 1, NULL);
    static const VrPersonalizeOptions personalize = {.work_dir = "/nonexistent"};
    VrSwapRequest request = {.run_id = run_id,
                             .uuid = FAKE_UUID,
                             .os_target = "vda",
                             .image = to_generation < 0 ? world->image : NULL,
                             .seat = world->seat,
                             .model_revision = world->model_revision,
                             .seed = to_generation < 0 ? world->seed : NULL,
                             .personal = world->personal,
                             .carry = world->carry,
                             .personalize = &personalize,
                             .personal_seat = world->personal_seat,
                             .to_generation = to_generation < 0 ? 0 : (guint)to_generation};

    return vr_swap_begin(&world->engine, &request, error);
}

VrSwap *world_begin(World *world, int to_generation, GError **error)
{
    return begin_in_run(world, to_generation, "run", error);
}

void world_swap_in_run(World *world, int to_generation, const char *run_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = begin_in_run(world, to_generation, run_id, &error);

    g_assert_no_error(error);
    vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error);
    g_assert_no_error(error);
    vr_swap_commit(swap, NULL, &error);
    g_assert_no_error(error);
}

void world_swap(World *world, int to_generation)
{
    world_swap_in_run(world, to_generation, "run");
}

guint world_current(World *world)
{
    g_autoptr(VrGeneration) current = vr_journal_current(world->journal, FAKE_UUID, NULL);

    g_assert_nonnull(current);
    return current->number;
}

mode_t world_mode(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_mode & 07777;
}

static void check_bytes(const char *path, const char *digest)
{
    char now[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);

    g_assert_true(vr_digest_fd(fd, DISK_BYTES, now, NULL));
    g_assert_cmpstr(now, ==, digest);
    g_assert_cmpint(world_mode(path), ==, 0640);
}

/* Which system wrote it last: the path of its NVRAM; "" for none. Free with g_free. */
static char *nvram_mark(const char *path)
{
    g_autofree char *bytes = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    g_assert_cmpuint(length, ==, FAKE_NVRAM_BYTES); /* whole */
    return bytes[0] == 'V' || bytes[0] == 'T' ? g_strdup("") : g_strndup(bytes, FAKE_NVRAM_MARK);
}

/* Of what is kept; a late define may yet name it (engine/swap.c). */
static mode_t kept_mode(World *world, const VrGeneration *generation)
{
    g_autoptr(GPtrArray) may_land = vr_journal_may_land(world->journal, "shop", NULL);

    for (guint i = 0; i < may_land->len; i++)
        if (((const VrSwapRow *)may_land->pdata[i])->to == generation->number)
            return 0600;
    return 0400;
}

static void check_nvram_of(World *world, const VrGeneration *generation, GPtrArray *generations, gboolean closed)
{
    gboolean there = generation->nvram && g_file_test(generation->nvram, G_FILE_TEST_EXISTS);
    g_autofree char *mark = there ? nvram_mark(generation->nvram) : NULL;
    gboolean known = !there || !*mark;

    if (generation->state == VR_GENERATION_DISCARDED)
        g_assert_false(there);
    for (guint i = 0; i <= generation->number && i < generations->len; i++)
        known |= g_strcmp0(mark, ((const VrGeneration *)generations->pdata[i])->nvram) == 0;
    g_assert_true(known);
    if (closed && generation->ours && generation->state == VR_GENERATION_KEPT && generation->nvram_file.device != 0)
        g_assert_cmpint(world_mode(generation->nvram), ==, kept_mode(world, generation));
}

void world_check_nvram(World *world, gboolean closed)
{
    g_autoptr(GPtrArray) generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);
    const char *disk = vr_domain_def_os_disk(def, "vda", NULL)->source;

    if (!def->uefi)
        return;
    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        check_nvram_of(world, generation, generations, closed);
        if (!g_str_equal(generation->path, disk) || !def->nvram)
            continue;
        g_assert_cmpstr(generation->nvram, ==, def->nvram);
        if (generations->len > 0 && ((const VrGeneration *)generations->pdata[0])->nvram_file.device != 0)
            g_assert_true(g_file_test(def->nvram, G_FILE_TEST_EXISTS));
        if (closed && fake_hv_state(world->fake) == VR_DOMAIN_RUNNING) {
            g_autofree char *mark = nvram_mark(def->nvram);
            g_assert_cmpstr(mark, ==, def->nvram); /* the system that runs writes its own */
        }
    }
}

void world_check_seed(World *world, gboolean closed)
{
    g_autoptr(GPtrArray) generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *configured = vr_domain_xml_seed(xml);
    g_autofree char *disk = fake_hv_os_path(world->fake, FALSE);

    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        gboolean there = generation->seed_file.device != 0 && g_file_test(generation->seed, G_FILE_TEST_EXISTS);
        if (generation->state == VR_GENERATION_DISCARDED && (closed || !world->is_discard_late))
            g_assert_false(there);
        if (closed && generation->state == VR_GENERATION_KEPT && generation->seed_file.device != 0)
            g_assert_cmpint(world_mode(generation->seed), ==, kept_mode(world, generation));
        if (!g_str_equal(generation->path, disk) || !generation->ours)
            continue;
        g_assert_cmpstr(configured, ==, generation->seed);
        if (configured)
            g_assert_cmpint(world_mode(configured), ==, 0600);
    }
}

void world_check(World *world, gboolean closed)
{
    g_autoptr(GPtrArray) open_swaps = vr_journal_open_swaps(world->journal, "shop", NULL);
    g_autoptr(GPtrArray) generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    g_autofree char *configured = fake_hv_os_path(world->fake, FALSE);
    g_autofree char *live = fake_hv_os_path(world->fake, TRUE);
    gboolean known = generations->len == 0;
    guint current = 0;
    guint64 size;

    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        gboolean is_it = g_str_equal(generation->path, configured);
        known |= is_it;
        current += generation->state == VR_GENERATION_CURRENT;
        if (closed && is_it)
            g_assert_cmpint(generation->state, ==, VR_GENERATION_CURRENT);
        if (generation->state == VR_GENERATION_DISCARDED && (closed || !world->is_discard_late))
            g_assert_false(g_file_test(generation->path, G_FILE_TEST_EXISTS));
        if (closed && generation->ours && generation->state == VR_GENERATION_KEPT)
            g_assert_cmpint(world_mode(generation->path), ==, kept_mode(world, generation));
    }
    g_assert_true(known);                                       /* invariant 8: one of them */
    g_assert_true(g_file_test(configured, G_FILE_TEST_EXISTS)); /* ... that exists */
    g_assert_true(
        vr_disk_file_virtual_size(configured, g_str_has_suffix(configured, ".raw") ? "raw" : "qcow2", &size, NULL));
    g_assert_cmpuint(size, ==, DISK_BYTES);                      /* ... and is whole */
    g_assert_cmpuint(current, ==, generations->len > 0 ? 1 : 0); /* invariant 13 */
    check_bytes(world->old_path, world->old_digest);             /* invariant 9 */
    check_bytes(world->data_path, world->data_digest);           /* invariant 10 */
    world_check_nvram(world, closed);
    world_check_seed(world, closed);
    if (closed) {
        g_assert_cmpuint(open_swaps->len, ==, 0);
        if (live)
            g_assert_cmpstr(live, ==, configured); /* invariant 14 */
    }
}
