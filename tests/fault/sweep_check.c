/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/sweep_check.h"

#include "hv/domain_xml.h"

#include <string.h>
#include <sys/stat.h>

#define DISKS "root/disks/"
#define IMAGES "root/images/"

typedef struct {
    char *uuid, *path;
    guint number;
    gboolean ours;
    VrGenerationState state;
    guint64 device, inode;
    char *nvram; /* NULL: none */
    guint64 nvram_device, nvram_inode;
    char *seed; /* NULL: none */
    guint64 seed_device, seed_inode;
    gboolean may_land; /* a late define may name it: it is not sealed */
} Row;

typedef struct {
    const World *world;
    Tree *now;
    gboolean settled;
    GPtrArray *rows; /* Row */
    char *wrong;     /* the first thing that does not hold */
} Check;

static G_GNUC_PRINTF(2, 3) void wrong(Check *check, const char *format, ...)
{
    va_list args;

    if (check->wrong)
        return;
    va_start(args, format);
    check->wrong = g_strdup_vprintf(format, args);
    va_end(args);
}

static const TreeNode *node_at(const Check *check, const char *path)
{
    g_autofree char *plain = g_canonicalize_filename(path, "/");
    gsize length = strlen(check->now->dir);

    return strncmp(plain, check->now->dir, length) == 0 && plain[length] == '/'
               ? tree_get(check->now, plain + length + 1)
               : NULL;
}

/* --- the journal's rows ------------------------------------------------------------------------------ */

static void row_free(gpointer data)
{
    Row *row = data;

    g_free(row->uuid);
    g_free(row->path);
    g_free(row->nvram);
    g_free(row->seed);
    g_free(row);
}

static void add_row(char **columns, void *data)
{
    Row *row = g_new0(Row, 1);

    row->uuid = g_strdup(columns[0]);
    row->number = (guint)strtoul(columns[1], NULL, 10);
    row->path = g_strdup(columns[2]);
    row->ours = columns[3][0] == '1';
    row->state = (VrGenerationState)atoi(columns[4]);
    row->device = strtoull(columns[5], NULL, 10);
    row->inode = strtoull(columns[6], NULL, 10);
    row->nvram = *columns[7] ? g_strdup(columns[7]) : NULL;
    row->nvram_device = strtoull(columns[8], NULL, 10);
    row->nvram_inode = strtoull(columns[9], NULL, 10);
    row->seed = *columns[10] ? g_strdup(columns[10]) : NULL;
    row->seed_device = strtoull(columns[11], NULL, 10);
    row->seed_inode = strtoull(columns[12], NULL, 10);
    row->may_land = columns[13][0] == '1';
    g_ptr_array_add(data, row);
}

static void note_text(char **columns, void *data)
{
    char **text = data;

    if (!*text)
        *text = g_strdup(columns[0]);
}

/* What the query says must be `expected`. */
static void expect(Check *check, const char *sql, const char *expected, const char *what)
{
    g_autofree char *found = NULL;

    if (!tree_query(check->now, sql, note_text, &found))
        wrong(check, "state.db cannot be read: %s", sql);
    else if (g_strcmp0(found, expected) != 0)
        wrong(check, "%s: %s", what, found);
}

static const Row *row_of_file(const Check *check, const char *relpath)
{
    static const char *const suffixes[] = {".xml", ".qcow2", ".nvram", ".seed.iso"};
    g_autofree char *path = g_build_filename(check->now->dir, relpath, NULL);
    g_autofree char *stem = g_strdup(path);

    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (g_str_has_suffix(stem, suffixes[i])) {
            stem[strlen(stem) - strlen(suffixes[i])] = '\0';
            break;
        }
    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        g_autofree char *own = g_strdup_printf("%s/" DISKS "%s/g%u", check->now->dir, row->uuid, row->number);
        if (g_str_equal(own, stem))
            return row;
    }
    return NULL;
}

/* --- domains (invariants 8, 10, 11, 14) -------------------------------------------------------------- */

/* As generations have it: a path, or POOL/VOLUME. NULL: there is none. */
static char *os_path_of(const TreeNode *node)
{
    g_autofree char *text = node ? g_strndup(g_bytes_get_data(node->bytes, NULL), g_bytes_get_size(node->bytes)) : NULL;
    g_autoptr(VrDomainDef) def = text ? vr_domain_def_parse(text, NULL) : NULL;
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, "vda", NULL) : NULL;

    if (!disk)
        return NULL;
    return disk->source ? g_strdup(disk->source) : g_strdup_printf("%s/%s", disk->pool, disk->volume);
}

static char *os_path(const Check *check, guint guest, const char *part)
{
    g_autofree char *path = g_strdup_printf("hv/%u/%s", guest, part);

    return os_path_of(tree_get(check->now, path));
}

/* The bytes that the file has when nothing cuts the scenario; before it has ended once nothing is known of new ones. */
static gboolean is_as_made(const Check *check, const char *relpath, const TreeNode *node)
{
    const TreeNode *was = tree_get(check->world->before, relpath);

    if (!was && check->world->after)
        was = tree_get(check->world->after, relpath);
    return !was || tree_same_content(was, node);
}

/* It exists, is whole, and QEMU's user could open it. */
static void check_startable(Check *check, guint guest, const char *path)
{
    g_autofree char *volume = g_str_has_prefix(path, "guests/")
                                  ? g_build_filename(check->now->dir, "disks", path + strlen("guests/"), NULL)
                                  : g_strdup(path);
    const TreeNode *node = node_at(check, volume);

    if (!node || !node->bytes)
        wrong(check, "8: %s names %s, which is not there", sweep_guest_name(guest), path);
    else if (!(node->mode & S_IWUSR))
        wrong(check, "8: %s names %s, which is sealed", sweep_guest_name(guest), path);
    else if (!is_as_made(check, volume + strlen(check->now->dir) + 1, node))
        wrong(check, "8: %s names %s, which is not whole", sweep_guest_name(guest), path);
}

/* --- NVRAM (F7; invariants 8, 9, 14) ----------------------------------------------------------------- */

static char *first_nvram(const Check *check, guint guest)
{
    return g_strdup_printf("%s/disks/os%u.nvram", check->now->dir, guest);
}

/* Of the generation whose disk it is. A first one that no swap has looked at yet has none in the journal. */
static char *nvram_of_disk(const Check *check, guint guest, const char *os)
{
    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        if (g_str_equal(row->uuid, sweep_guest_uuid(guest)) && g_strcmp0(row->path, os) == 0 && row->nvram)
            return g_strdup(row->nvram);
    }
    return first_nvram(check, guest);
}

static void check_nvram(Check *check, guint guest, const char *part)
{
    g_autofree char *path = g_strdup_printf("hv/%u/%s", guest, part);
    const TreeNode *xml = tree_get(check->now, path), *node;
    g_autofree char *text = xml ? g_strndup(g_bytes_get_data(xml->bytes, NULL), g_bytes_get_size(xml->bytes)) : NULL;
    g_autoptr(VrDomainDef) def = text ? vr_domain_def_parse(text, NULL) : NULL;
    g_autofree char *os = os_path(check, guest, part);
    g_autofree char *nvram = nvram_of_disk(check, guest, os);

    if (!def || !check->world->scenario->uefi)
        return;
    node = def->nvram ? node_at(check, def->nvram) : NULL;
    if (g_strcmp0(def->nvram, nvram) != 0)
        wrong(check, "8: %s has the NVRAM %s, and that of its generation is %s", sweep_guest_name(guest), def->nvram,
              nvram);
    else if (!node || !(node->mode & S_IWUSR))
        wrong(check, "8: %s names the NVRAM %s, which is %s", sweep_guest_name(guest), nvram,
              node ? "sealed" : "not there");
}

/* What a system of that generation wrote, or of one before it, that ran on its own disk then. */
static gboolean is_written_by_its_own(const Check *check, const Row *row, const char *bytes)
{
    const char *ran_on = bytes + strlen(bytes) + 1;

    for (guint i = 0; i < check->rows->len; i++) {
        const Row *other = check->rows->pdata[i];
        if (g_str_equal(other->uuid, row->uuid) && other->number <= row->number &&
            g_strcmp0(other->nvram, bytes) == 0 && g_str_equal(other->path, ran_on))
            return TRUE;
    }
    return FALSE;
}

/* A copy of ours; the first one is among the files that have the bytes that they had. */
static gboolean is_whole_nvram(const Check *check, const Row *row, const TreeNode *node)
{
    g_autofree char *rest = g_strnfill(FAKE_NVRAM_BYTES - FAKE_NVRAM_MARK, 'V');
    gsize length;
    const char *bytes = g_bytes_get_data(node->bytes, &length);

    return length == FAKE_NVRAM_BYTES && is_written_by_its_own(check, row, bytes) &&
           memcmp(bytes + FAKE_NVRAM_MARK, rest, length - FAKE_NVRAM_MARK) == 0;
}

static void check_copies(Check *check)
{
    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        const TreeNode *node = row->ours && row->nvram ? node_at(check, row->nvram) : NULL;
        if (node && !is_whole_nvram(check, row, node))
            wrong(check, "8: the NVRAM of generation %u is not whole, or not its own", row->number);
    }
}

/* What is kept is sealed, unless a late define may name it. */
static mode_t mode_of(const Row *row)
{
    gboolean kept = row->state == VR_GENERATION_KEPT || row->state == VR_GENERATION_FAILED;

    return kept && !row->may_land ? 0400 : 0600;
}

static void check_kept_nvram(Check *check, const Row *row)
{
    const TreeNode *node = row->nvram ? node_at(check, row->nvram) : NULL;

    if (!row->ours || !check->world->scenario->uefi || row->state == VR_GENERATION_DISCARDED)
        return;
    if (row->state == VR_GENERATION_DELETED) {
        if (node)
            wrong(check, "14: generation %u is deleted, and its NVRAM is there", row->number);
    } else if (!node) {
        wrong(check, "generation %u is %s, and has no NVRAM", row->number, vr_generation_state_name(row->state));
    } else if (node->device != row->nvram_device || node->inode != row->nvram_inode) {
        wrong(check, "7: the NVRAM of generation %u is another file than the journal says", row->number);
    } else if ((node->mode & 07777) != mode_of(row)) {
        wrong(check, "generation %u is %s, and its NVRAM has mode %o", row->number,
              vr_generation_state_name(row->state), node->mode & 07777);
    }
}

/* --- seed (C1, C7; invariants 8, 9, 14, 29) ---------------------------------------------------------- */

static const Row *row_of_disk(const Check *check, guint guest, const char *os)
{
    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        if (g_str_equal(row->uuid, sweep_guest_uuid(guest)) && g_strcmp0(row->path, os) == 0)
            return row;
    }
    return NULL;
}

static void check_seed(Check *check, guint guest, const char *part)
{
    g_autofree char *path = g_strdup_printf("hv/%u/%s", guest, part);
    const TreeNode *xml = tree_get(check->now, path), *node;
    g_autofree char *text = xml ? g_strndup(g_bytes_get_data(xml->bytes, NULL), g_bytes_get_size(xml->bytes)) : NULL;
    g_autofree char *seed = text ? vr_domain_xml_seed(text) : NULL;
    g_autofree char *os = os_path(check, guest, part);
    const Row *row = row_of_disk(check, guest, os);

    if (!text)
        return;
    node = seed ? node_at(check, seed) : NULL;
    if (g_strcmp0(seed, row ? row->seed : NULL) != 0)
        wrong(check, "8: %s has the seed %s, and that of its generation is %s", sweep_guest_name(guest),
              seed ? seed : "none", row && row->seed ? row->seed : "none");
    else if (seed && (!node || !(node->mode & S_IWUSR)))
        wrong(check, "8: %s names the seed %s, which is %s", sweep_guest_name(guest), seed,
              node ? "sealed" : "not there");
}

static gboolean has_text(const TreeNode *node, const char *text)
{
    gsize length;
    const char *bytes = node->bytes ? g_bytes_get_data(node->bytes, &length) : NULL;

    return bytes && memmem(bytes, length, text, strlen(text)) != NULL;
}

/* It names its own generation, and is in no file that is no seed or that others may read. */
static void check_seed_files(Check *check)
{
    g_autoptr(GPtrArray) paths = tree_paths(check->now, "");

    for (guint i = 0; i < paths->len && check->world->scenario->seeded; i++) {
        const TreeNode *node = tree_get(check->now, paths->pdata[i]);
        gboolean is_seed = g_str_has_suffix(paths->pdata[i], ".seed.iso");
        const Row *row = is_seed ? row_of_file(check, paths->pdata[i]) : NULL;
        g_autofree char *id = row ? g_strdup_printf("instance-id: %s-g%u-", row->uuid, row->number) : NULL;
        if (has_text(node, SWEEP_SECRET) && (node->mode & 077))
            wrong(check, "29: %s has the secret and mode %o", (char *)paths->pdata[i], node->mode & 07777);
        else if (has_text(node, SWEEP_SECRET) && !is_seed && (check->settled || !strstr(paths->pdata[i], "/.tmp-")))
            wrong(check, "29: %s has the secret", (char *)paths->pdata[i]);
        else if (id && !strstr(paths->pdata[i], "/.tmp-") && (!has_text(node, id) || !has_text(node, SWEEP_SECRET)))
            wrong(check, "8: %s is not whole, or not that of its generation", (char *)paths->pdata[i]);
    }
}

static void check_kept_seed(Check *check, const Row *row)
{
    const TreeNode *node = row->seed ? node_at(check, row->seed) : NULL;

    if (!row->ours || !check->world->scenario->seeded)
        return;
    if (row->state == VR_GENERATION_DISCARDED || row->state == VR_GENERATION_DELETED) {
        if (node && node->inode == row->seed_inode)
            wrong(check, "7: generation %u is %s, and its seed is there", row->number,
                  vr_generation_state_name(row->state));
    } else if (!node) {
        wrong(check, "generation %u is %s, and has no seed", row->number, vr_generation_state_name(row->state));
    } else if (node->device != row->seed_device || node->inode != row->seed_inode) {
        wrong(check, "7: the seed of generation %u is another file than the journal says", row->number);
    } else if ((node->mode & 07777) != mode_of(row)) {
        wrong(check, "generation %u is %s, and its seed has mode %o", row->number, vr_generation_state_name(row->state),
              node->mode & 07777);
    }
}

/* --- what is carried over (C6, C8; invariants 12, 29) ------------------------------------------------ */

static void check_carried(Check *check, guint guest, const char *part)
{
    g_autofree char *os = os_path(check, guest, part);
    const Row *row = os ? row_of_disk(check, guest, os) : NULL;
    const TreeNode *node = row && row->ours ? node_at(check, row->path) : NULL;
    gboolean changes = check->world->scenario->carried == SWEEP_CARRY_GUEST;

    if (check->world->scenario->carried == SWEEP_CARRY_NOTHING || !node)
        return;
    if (!has_text(node, FAKE_HOST_KEY) || !has_text(node, FAKE_MACHINE_ID) || !has_text(node, FAKE_TLS_KEY) ||
        (changes && !has_text(node, SWEEP_CHANGED)))
        wrong(check, "12: %s names %s, which has not what was to be carried over", sweep_guest_name(guest), os);
}

/* It is on new disks, and those are nobody else's to read. */
static void check_carried_files(Check *check)
{
    g_autoptr(GPtrArray) paths = tree_paths(check->now, "");

    for (guint i = 0; i < paths->len && check->world->scenario->carried != SWEEP_CARRY_NOTHING; i++) {
        const TreeNode *node = tree_get(check->now, paths->pdata[i]);
        gboolean is_disk = g_str_has_prefix(paths->pdata[i], DISKS) && g_str_has_suffix(paths->pdata[i], ".qcow2");
        if (has_text(node, FAKE_TLS_KEY) && (!is_disk || (node->mode & 077)))
            wrong(check, "29: %s has the secret and mode %o", (char *)paths->pdata[i], node->mode & 07777);
    }
}

#define TAKEN_AND_NOT_MARKED                                                                                           \
    "SELECT domain FROM swaps WHERE state = 5 AND rollback = 0 AND NOT EXISTS "                                        \
    "(SELECT 1 FROM steps WHERE swap_id = id AND name = 'carry')"

static gboolean is_generation(const Check *check, guint guest, const char *path)
{
    gboolean any = FALSE;

    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        if (!g_str_equal(row->uuid, sweep_guest_uuid(guest)))
            continue;
        any = TRUE;
        if (g_str_equal(row->path, path))
            return row->state < VR_GENERATION_DISCARDED;
    }
    return !any;
}

static void check_domain(Check *check, guint guest)
{
    g_autofree char *configured = os_path(check, guest, "inactive.xml");
    g_autofree char *live = os_path(check, guest, "live.xml");

    if (!configured) {
        wrong(check, "8: %s has no OS disk", sweep_guest_name(guest));
        return;
    }
    check_startable(check, guest, configured);
    if (!is_generation(check, guest, configured))
        wrong(check, "8: %s names %s, which is no generation of it", sweep_guest_name(guest), configured);
    if (live && !g_str_equal(live, configured))
        wrong(check, "14: %s runs on %s and names %s", sweep_guest_name(guest), live, configured);
    check_nvram(check, guest, "inactive.xml");
    check_nvram(check, guest, "live.xml");
    check_seed(check, guest, "inactive.xml");
    check_seed(check, guest, "live.xml");
    check_carried(check, guest, "inactive.xml");
    check_carried(check, guest, "live.xml");
}

/* All but the OS disk and our metadata is as it was. */
static void check_rest_of_domain(Check *check, guint guest)
{
    static const char *const parts[] = {"inactive.xml", "live.xml"};

    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autofree char *path = g_strdup_printf("hv/%u/inactive.xml", guest);
        g_autofree char *now_path = g_strdup_printf("hv/%u/%s", guest, parts[i]);
        const TreeNode *was = tree_get(check->world->before, path), *is = tree_get(check->now, now_path);
        g_autoptr(GError) error = NULL;
        if (!is)
            continue;
        g_autofree char *before = g_strndup(g_bytes_get_data(was->bytes, NULL), g_bytes_get_size(was->bytes));
        g_autofree char *after = g_strndup(g_bytes_get_data(is->bytes, NULL), g_bytes_get_size(is->bytes));
        if (!vr_domain_xml_prove(before, after, "vda", &error))
            wrong(check, "10: %s: %s", sweep_guest_name(guest), error->message);
    }
}

static void check_power(Check *check, guint guest)
{
    g_autofree char *path = g_strdup_printf("hv/%u/live.xml", guest);
    gboolean runs = tree_get(check->now, path) != NULL;

    if (runs == check->world->scenario->off)
        wrong(check, "%s is %s", sweep_guest_name(guest), runs ? "running, and was off" : "off, and was running");
}

/* --- files (invariants 1, 2, 7, 9, 10) --------------------------------------------------------------- */

static gboolean changes_by_itself(const char *path)
{
    return g_str_has_prefix(path, "root/state.db") || g_str_has_prefix(path, "root/locks") ||
           g_str_has_prefix(path, "hv/");
}

static void check_old_file(Check *check, const char *path, const TreeNode *was)
{
    const TreeNode *is = tree_get(check->now, path);
    const char *may_delete = check->world->scenario->may_delete;
    gboolean is_disk = g_str_has_prefix(path, DISKS) && row_of_file(check, path);

    if (!is) {
        if (!may_delete || !g_str_has_prefix(path, may_delete))
            wrong(check, "7: %s is gone", path);
        return;
    }
    if (is_disk && g_str_has_suffix(path, ".xml"))
        return;
    if (!tree_same_content(was, is))
        wrong(check, "9: %s has other bytes", path);
    if (!is_disk && is->mode != was->mode)
        wrong(check, "7: %s has mode %o, and had %o", path, is->mode, was->mode);
}

static gboolean is_temp(const char *path)
{
    return strstr(path, "/.tmp-") != NULL;
}

static void check_image(Check *check, const char *path, const TreeNode *node)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *record = g_build_filename(dir, "image.json", NULL);

    if (!tree_get(check->now, record))
        wrong(check, "1: %s is visible without image.json", dir);
    if (strstr(path, "/disk.") && (!is_as_made(check, path, node) || (node->mode & 07777) != 0444))
        wrong(check, "1: %s is visible and not as it was made", path);
}

static void check_new_file(Check *check, const char *path, const TreeNode *node)
{
    const Row *row = row_of_file(check, path);

    if (is_temp(path)) {
        if (check->settled)
            wrong(check, "%s is left behind", path);
    } else if (g_str_has_prefix(path, IMAGES)) {
        check_image(check, path, node);
    } else if (!g_str_has_prefix(path, DISKS) || !row) {
        wrong(check, "%s is nobody's", path);
    } else if (check->settled && row->state == VR_GENERATION_DISCARDED) {
        wrong(check, "%s of a discarded generation is left behind", path);
    } else if (g_str_has_suffix(path, ".xml") && (node->mode & 07777) != 0600) {
        wrong(check, "29: %s has mode %o", path, node->mode);
    }
}

static void check_files(Check *check)
{
    g_autoptr(GPtrArray) old = tree_paths(check->world->before, "");
    g_autoptr(GPtrArray) now = tree_paths(check->now, "root/");

    for (guint i = 0; i < old->len; i++)
        if (!changes_by_itself(old->pdata[i]))
            check_old_file(check, old->pdata[i], tree_get(check->world->before, old->pdata[i]));
    for (guint i = 0; i < now->len; i++) {
        const TreeNode *node = tree_get(check->now, now->pdata[i]);
        if (node->bytes && !changes_by_itself(now->pdata[i]) && !tree_get(check->world->before, now->pdata[i]))
            check_new_file(check, now->pdata[i], node);
        if (!node->bytes && check->settled && is_temp(now->pdata[i]) && !tree_get(check->world->before, now->pdata[i]))
            wrong(check, "%s is left behind", (char *)now->pdata[i]);
    }
}

/* --- generations (invariants 6, 12, 13) -------------------------------------------------------------- */

/* A rollback runs from it (invariant 15). */
static void check_xml(Check *check, const Row *row)
{
    g_autofree char *path = g_strdup_printf(DISKS "%s/g%u.xml", row->uuid, row->number);
    g_autofree char *os = os_path_of(tree_get(check->now, path));

    gboolean kept = row->state == VR_GENERATION_KEPT || row->state == VR_GENERATION_FAILED;

    if (row->state >= VR_GENERATION_DISCARDED || (!kept && !tree_get(check->now, path)))
        return;
    if (!tree_get(check->now, path))
        wrong(check, "15: %s is not there, and generation %u is %s", path, row->number,
              vr_generation_state_name(row->state));
    else if (g_strcmp0(os, row->path) != 0)
        wrong(check, "15: %s names %s, and not %s", path, os, row->path);
}

static void check_generation(Check *check, const Row *row)
{
    const TreeNode *node = node_at(check, row->path);
    mode_t mode = node ? node->mode & 07777 : 0;

    if (row->state == VR_GENERATION_NEW)
        wrong(check, "13: generation %u is new, and no swap is open", row->number);
    if (row->state == VR_GENERATION_GOING)
        wrong(check, "14: generation %u is still going", row->number);
    if (row->state == VR_GENERATION_DELETED && node)
        wrong(check, "14: generation %u is deleted, and its disk is there", row->number);
    if (!row->ours || row->state >= VR_GENERATION_DISCARDED)
        return;
    if (!node)
        wrong(check, "generation %u is %s, and has no file", row->number, vr_generation_state_name(row->state));
    else if (node->device != row->device || node->inode != row->inode)
        wrong(check, "7: generation %u is another file than the journal says", row->number);
    else if (mode != mode_of(row))
        wrong(check, "generation %u is %s, and has mode %o", row->number, vr_generation_state_name(row->state), mode);
}

static void check_current(Check *check, guint guest)
{
    g_autofree char *configured = os_path(check, guest, "inactive.xml");
    guint rows = 0, current = 0;

    for (guint i = 0; i < check->rows->len; i++) {
        const Row *row = check->rows->pdata[i];
        if (!g_str_equal(row->uuid, sweep_guest_uuid(guest)))
            continue;
        rows++;
        if (row->state != VR_GENERATION_CURRENT)
            continue;
        current++;
        if (g_strcmp0(row->path, configured) != 0)
            wrong(check, "13: generation %u is current, and %s names %s", row->number, sweep_guest_name(guest),
                  configured);
    }
    if (current != (rows > 0 ? 1 : 0))
        wrong(check, "13: %s has %u current generations", sweep_guest_name(guest), current);
}

/* The last swap of each guest has ended where its generations say. 5: COMMITTED. */
#define ENDED_ELSEWHERE                                                                                                \
    "SELECT s.domain FROM swaps s JOIN generations g ON g.uuid = s.uuid AND g.number = "                               \
    "CASE s.state WHEN 5 THEN s.to_number ELSE s.from_number END WHERE g.state != 1 AND "                              \
    "s.seq = (SELECT max(seq) FROM swaps WHERE uuid = s.uuid)"

/* A disk that ran once is kept for a post-mortem (F11); one that is on its way back is not started any more. */
#define BOOTED_AND_DISCARDED                                                                                           \
    "SELECT s.domain FROM swaps s JOIN generations g ON g.uuid = s.uuid AND g.number = s.to_number "                   \
    "JOIN steps ON swap_id = s.id AND name = 'start-asked' WHERE g.state = 4"
#define STARTED_ON_THE_WAY_BACK                                                                                        \
    "SELECT s.domain FROM swaps s JOIN steps a ON a.swap_id = s.id JOIN steps b ON b.swap_id = s.id "                  \
    "WHERE a.name IN ('undo', 'new-forced-off') AND b.name = 'start-asked' AND b.seq > a.seq"

#define ALL_GENERATIONS                                                                                                \
    "SELECT uuid, number, path, ours, state, device, inode, nvram, nvram_device, nvram_inode, "                        \
    "seed, seed_device, seed_inode, "                                                                                  \
    "EXISTS (SELECT 1 FROM swaps JOIN steps ON swap_id = id WHERE swaps.uuid = generations.uuid AND "                  \
    "to_number = number AND name = 'may-land') FROM generations"

static void check_rows(Check *check)
{
    expect(check, BOOTED_AND_DISCARDED, NULL, "12: a disk that was booted is discarded");
    expect(check, STARTED_ON_THE_WAY_BACK, NULL, "2: the new disk is started again on the way back");
    expect(check, "SELECT domain FROM swaps WHERE state NOT IN (5, 6, 7)", NULL, "a swap is open");
    expect(check, ENDED_ELSEWHERE, NULL, "13: the swap ended otherwise than the generations say");
    if (check->world->scenario->carried != SWEEP_CARRY_NOTHING)
        expect(check, TAKEN_AND_NOT_MARKED, NULL, "28: what was carried over is not marked");
    expect(check, "SELECT path FROM image_deletions WHERE outcome IS NULL", NULL,
           "the record of a deletion has no end");
    for (guint i = 0; i < check->rows->len; i++)
        check_generation(check, check->rows->pdata[i]);
    for (guint i = 0; i < check->rows->len; i++)
        check_xml(check, check->rows->pdata[i]);
    for (guint i = 0; i < check->rows->len; i++)
        check_kept_nvram(check, check->rows->pdata[i]);
    for (guint i = 0; i < check->rows->len; i++)
        check_kept_seed(check, check->rows->pdata[i]);
    for (guint i = 0; i < check->world->scenario->guests; i++) {
        check_current(check, i);
        check_power(check, i);
    }
}

/* What is read without a name in it: a version is there with both files or not at all. */
static void check_versions(Check *check)
{
    g_autoptr(GPtrArray) records = tree_paths(check->now, IMAGES);

    for (guint i = 0; i < records->len; i++) {
        g_autofree char *dir = g_path_get_dirname(records->pdata[i]);
        g_autofree char *raw = g_build_filename(dir, "disk.raw", NULL);
        g_autofree char *qcow2 = g_build_filename(dir, "disk.qcow2", NULL);
        if (g_str_has_suffix(records->pdata[i], "/image.json") && !is_temp(records->pdata[i]) &&
            !tree_get(check->now, raw) && !tree_get(check->now, qcow2))
            wrong(check, "1: %s is visible without its disk", dir);
    }
}

static char *run(const World *world, Tree *now, gboolean settled)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    Check check = {.world = world, .now = now, .settled = settled, .rows = rows};

    /* no table yet is no row: a database that was cut while it was made */
    tree_query(now, ALL_GENERATIONS, add_row, rows);
    expect(&check, "PRAGMA integrity_check", "ok", "state.db is damaged");
    for (guint i = 0; i < world->scenario->guests; i++) {
        check_domain(&check, i);
        check_rest_of_domain(&check, i);
    }
    check_copies(&check);
    check_seed_files(&check);
    check_carried_files(&check);
    check_files(&check);
    check_versions(&check);
    if (settled)
        check_rows(&check);
    return check.wrong;
}

char *check_instant(const World *world, Tree *now)
{
    return run(world, now, FALSE);
}

char *check_settled(const World *world, Tree *now)
{
    return run(world, now, TRUE);
}
