/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a version becomes visible:
 *
 *   names and digest are checked -> the source is opened, a regular file -> is this version there already? -> image check on
 *   the source -> enough space -> locked temp directory images/NAME/.tmp-OPID with V/ in it -> V/disk.FMT made 0444,
 *   copied and hashed, flushed -> digest as asked, source as it was -> image check again on the copy's own descriptor ->
 *   V/image.json -> under the database's write lock: still not there, publisher, offer and sku agree -> V renamed to
 *   VERSION without replacing -> directories flushed
 *
 * Before the rename nothing is visible, and a crash leaves a temp directory that the sweep removes. The write lock makes
 * two publishers of one image take turns in the last step; a rename is short.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPACE_MARGIN (4 << 20) /* for directories, image.json, the database */
#define DIGEST_PREFIX "sha256:"

typedef struct {
    VrStore *store;
    const VrPublication *asked;
    int source_fd; /* owned */
    struct stat source;
    VrImageVerdict verdict;
    char wanted[VR_DIGEST_HEX_LENGTH + 1]; /* "" when none was given */
    char digest[VR_DIGEST_HEX_LENGTH + 1]; /* of the source, when it was read */
    VrImage *offer;                        /* owned: carries publisher, offer, sku as they will be written */
} Publication;

static void publication_clear(Publication *p)
{
    vr_fd_clear(&p->source_fd);
    vr_image_free(p->offer);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Publication, publication_clear)

/* ---- what was asked ---- */

static gboolean parse_digest(Publication *p, GError **error)
{
    const char *text = p->asked->digest;
    if (!text)
        return TRUE;
    if (g_str_has_prefix(text, DIGEST_PREFIX) && strlen(text) == strlen(DIGEST_PREFIX) + VR_DIGEST_HEX_LENGTH) {
        g_autofree char *lower = g_ascii_strdown(text + strlen(DIGEST_PREFIX), -1);
        if (strspn(lower, "0123456789abcdef") == VR_DIGEST_HEX_LENGTH) {
            memcpy(p->wanted, lower, sizeof p->wanted);
            return TRUE;
        }
    }
    g_autofree char *shown = vr_printable(text, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "\"%.160s\" is not a digest: it needs \"" DIGEST_PREFIX "\" and %d hex digits", shown,
                VR_DIGEST_HEX_LENGTH);
    return FALSE;
}

static gboolean check_names(Publication *p, GError **error)
{
    const VrPublication *asked = p->asked;
    if (!vr_name_check(asked->name, "image", error) || !vr_version_check(asked->version, error))
        return FALSE;
    if (!asked->publisher && !asked->offer && !asked->sku)
        return TRUE;
    if (!asked->publisher || !asked->offer || !asked->sku) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE,
                            "publisher, offer and sku are given together or not at all");
        return FALSE;
    }
    return vr_name_check(asked->publisher, "publisher", error) && vr_name_check(asked->offer, "offer", error) &&
           vr_name_check(asked->sku, "sku", error);
}

/* ---- the source ---- */

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link: name the file that it points to";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a device";
    }
}

/* First without opening it for real (O_PATH): opening a device or a FIFO can have effects of its own. */
static gboolean open_source(Publication *p, GError **error)
{
    const char *file = p->asked->file;
    vr_autofd path_fd = open(file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path_fd < 0 || fstat(path_fd, &p->source) < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", file);
        return FALSE;
    }
    if (!S_ISREG(p->source.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is no regular file but %s", file,
                    kind_of(p->source.st_mode));
        return FALSE;
    }
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", path_fd);
    p->source_fd = open(same, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (p->source_fd >= 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot open %s", file);
    return FALSE;
}

static gboolean check_unchanged(Publication *p, GError **error)
{
    struct stat now;
    if (fstat(p->source_fd, &now) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", p->asked->file);
        return FALSE;
    }
    if (now.st_size == p->source.st_size && now.st_mtim.tv_sec == p->source.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == p->source.st_mtim.tv_nsec && now.st_ctim.tv_sec == p->source.st_ctim.tv_sec &&
        now.st_ctim.tv_nsec == p->source.st_ctim.tv_nsec)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->asked->file);
    return FALSE;
}

static gboolean check_source(Publication *p, GError **error)
{
    const VrImagePolicy policy = {
        .format_given = p->asked->format_given, .format = p->asked->format, .file_name = p->asked->file};
    return vr_image_check(p->source_fd, &policy, &p->verdict, error) &&
           vr_image_verdict_require(&p->verdict, p->asked->file, error);
}

static gboolean compare_digest(Publication *p, GError **error)
{
    if (!*p->wanted || strcmp(p->wanted, p->digest) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has another digest: sha256:%s was asked for, it has sha256:%s",
                p->asked->file, p->wanted, p->digest);
    return FALSE;
}

/* The digest of the source without a copy. */
static gboolean read_digest(Publication *p, GError **error)
{
    return vr_digest_fd(p->source_fd, (guint64)p->source.st_size, p->digest, error) && check_unchanged(p, error);
}

/* ---- what is there already ---- */

static gboolean same_offer(const VrImage *a, const char *publisher, const char *offer, const char *sku)
{
    return g_strcmp0(a->publisher, publisher) == 0 && g_strcmp0(a->offer, offer) == 0 && g_strcmp0(a->sku, sku) == 0;
}

static gboolean offer_conflict(const Publication *p, const VrImage *other, gboolean same_name, GError **error)
{
    if (same_name)
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "image %s has publisher %s, offer %s and sku %s; all its versions have the same", other->name,
                    other->publisher ? other->publisher : "(none)", other->offer ? other->offer : "(none)",
                    other->sku ? other->sku : "(none)");
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "publisher %s, offer %s and sku %s are those of image %s",
                    p->asked->publisher, p->asked->offer, p->asked->sku, other->name);
    return FALSE;
}

static void set_offer(Publication *p, const char *publisher, const char *offer, const char *sku)
{
    vr_image_free(p->offer);
    p->offer = g_new0(VrImage, 1);
    p->offer->publisher = g_strdup(publisher);
    p->offer->offer = g_strdup(offer);
    p->offer->sku = g_strdup(sku);
}

/* One image, one publisher, offer and sku: left out, a later version has those of the earlier ones. */
static gboolean check_offer(Publication *p, GError **error)
{
    const VrPublication *asked = p->asked;
    g_autoptr(GPtrArray) images = vr_store_scan(p->store, NULL, error);
    if (!images)
        return FALSE;
    set_offer(p, asked->publisher, asked->offer, asked->sku);
    for (guint i = 0; i < images->len; i++) {
        const VrImage *other = images->pdata[i];
        gboolean same_name = strcmp(other->name, asked->name) == 0;
        if (same_name && !asked->publisher)
            set_offer(p, other->publisher, other->offer, other->sku);
        else if (asked->publisher && same_name != same_offer(other, asked->publisher, asked->offer, asked->sku))
            return offer_conflict(p, other, same_name, error);
    }
    return TRUE;
}

/* The version that is there already, or NULL: without an error when there is none. */
static VrImage *find_existing(Publication *p, GError **error)
{
    g_autofree char *found = vr_store_find_version(p->store, p->asked->name, p->asked->version, error);
    return found ? vr_image_load(p->store, p->asked->name, found, error) : NULL;
}

/* digest is what the bytes of this publication are, or are said to be. */
static gboolean accept_existing(const VrImage *existing, const char *digest, GError **error)
{
    if (strcmp(existing->source_digest, digest) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                "%s %s is there already with other content: sha256:%s is published, sha256:%s was given",
                existing->name, existing->version, existing->source_digest, digest);
    return FALSE;
}

/* *existing stays NULL when the version is new. */
static gboolean look_for_existing(Publication *p, VrImage **existing, GError **error)
{
    GError *local = NULL;
    g_autoptr(VrImage) found = find_existing(p, &local);
    if (!found) {
        if (local)
            g_propagate_error(error, local);
        return local == NULL;
    }
    if (!*p->wanted && !read_digest(p, error))
        return FALSE;
    if (!accept_existing(found, *p->wanted ? p->wanted : p->digest, error))
        return FALSE;
    *existing = g_steal_pointer(&found);
    return TRUE;
}

/* ---- the copy ---- */

static gboolean check_space(Publication *p, GError **error)
{
    guint64 available, needed = (guint64)p->source.st_blocks * 512 + SPACE_MARGIN; /* holes stay holes */
    if (!vr_store_free_bytes(p->store, &available, error))
        return FALSE;
    if (available >= needed)
        return TRUE;
    g_autofree char *have = g_format_size_full(available, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *need = g_format_size_full(needed, G_FORMAT_SIZE_IEC_UNITS);
    g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE, "%s has %s free and %s are needed", p->store->root, have, need);
    return FALSE;
}

static char *disk_name(const Publication *p)
{
    return g_strconcat("disk.", vr_image_format_name(p->verdict.format), NULL);
}

/* Read-only from the start: so the one flush at the end of the copy covers the mode too. */
static int create_disk(Publication *p, int dir_fd, GError **error)
{
    g_autofree char *name = disk_name(p);
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0400, error);
    if (fd >= 0 && fchmod(fd, 0444) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", name);
        return -1;
    }
    return vr_fd_steal(&fd);
}

static gboolean check_copy(Publication *p, int fd, GError **error)
{
    VrImageVerdict verdict;
    const VrImagePolicy policy = {.format_given = TRUE, .format = p->verdict.format};
    if (!vr_image_check(fd, &policy, &verdict, error) || !vr_image_verdict_require(&verdict, "the copy", error))
        return FALSE;
    if (verdict.file_size == p->verdict.file_size && verdict.virtual_size == p->verdict.virtual_size)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->asked->file);
    return FALSE;
}

static gboolean copy_disk(Publication *p, int dir_fd, GError **error)
{
    vr_autofd fd = create_disk(p, dir_fd, error);
    if (fd < 0)
        return FALSE;
    const VrCopyJob job = {.source_fd = p->source_fd,
                           .target_fd = fd,
                           .length = (guint64)p->source.st_size,
                           .cancelled = p->asked->cancelled,
                           .progress = p->asked->progress,
                           .progress_data = p->asked->progress_data};
    return vr_copy(&job, p->digest, error) && compare_digest(p, error) && check_unchanged(p, error) &&
           check_copy(p, fd, error);
}

/* The record of the version as it will be. */
static VrImage *describe(const Publication *p)
{
    VrImage *image = g_new0(VrImage, 1);
    image->name = g_strdup(p->asked->name);
    image->version = g_strdup(p->asked->version);
    image->publisher = g_strdup(p->offer->publisher);
    image->offer = g_strdup(p->offer->offer);
    image->sku = g_strdup(p->offer->sku);
    image->format = p->verdict.format;
    image->file_size = p->verdict.file_size;
    image->virtual_size = p->verdict.virtual_size;
    memcpy(image->source_digest, p->digest, sizeof image->source_digest);
    memcpy(image->stored_digest, p->digest, sizeof image->stored_digest); /* stored byte for byte */
    image->rules_version = VR_IMAGE_RULES_VERSION;
    image->published_at = vr_clock_format(vr_clock_wall_us());
    g_autofree char *disk = disk_name(p);
    image->path = g_build_filename(p->store->root, "images", image->name, image->version, disk, NULL);
    return image;
}

static gboolean write_record(const Publication *p, int dir_fd, GError **error)
{
    g_autoptr(VrImage) image = describe(p);
    g_autofree char *json = vr_image_to_json(image);
    return vr_durable_write(dir_fd, "image.json", json, strlen(json), 0444, FALSE, error);
}

/* ---- becoming visible ---- */

/* Within the database's write lock. */
static gboolean give_name(Publication *p, VrTmpdir *tmp, gboolean *already, GError **error)
{
    GError *local = NULL;
    g_autoptr(VrImage) existing = find_existing(p, &local); /* somebody may have been faster */
    if (local) {
        g_propagate_error(error, local);
        return FALSE;
    }
    *already = existing != NULL;
    if (existing)
        return accept_existing(existing, p->digest, error);
    if (!check_offer(p, error))
        return FALSE;
    vr_autofd version_fd = vr_open_beneath(tmp->dir_fd, "v", O_RDONLY | O_DIRECTORY, 0, error);
    return version_fd >= 0 && write_record(p, version_fd, error) &&
           vr_durable_rename(tmp->dir_fd, "v", tmp->parent_fd, p->asked->version, error);
}

static gboolean make_visible(Publication *p, VrTmpdir *tmp, gboolean *already, GError **error)
{
    if (!vr_db_begin(p->store->db, error))
        return FALSE;
    gboolean ok = give_name(p, tmp, already, error);
    vr_db_rollback(p->store->db); /* it was only the lock */
    return ok;
}

static gboolean make(Publication *p, gboolean *already, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", p->asked->name, NULL);
    g_autofree char *opid = g_uuid_string_random();
    vr_autofd name_fd = vr_mkdir_beneath(p->store->root_fd, relpath, VR_DIR_MODE, error);
    g_autoptr(VrTmpdir) tmp = name_fd < 0 ? NULL : vr_tmpdir_new(name_fd, opid, error);
    if (!tmp)
        return FALSE;
    vr_autofd version_fd = vr_mkdir_beneath(tmp->dir_fd, "v", VR_DIR_MODE, error);
    return version_fd >= 0 && copy_disk(p, version_fd, error) && make_visible(p, tmp, already, error);
}

/* ---- all of it ---- */

static gboolean check_before(Publication *p, VrImage **existing, GError **error)
{
    if (vr_db_is_read_only(p->store->db) && !p->asked->dry_run) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "the store is open for reading only");
        return FALSE;
    }
    if (!check_names(p, error) || !parse_digest(p, error) || !open_source(p, error) || !check_offer(p, error) ||
        !look_for_existing(p, existing, error))
        return FALSE;
    return *existing || (check_source(p, error) && check_space(p, error));
}

/* What it would give. A digest that was asked for is compared, since that writes nothing. */
static VrImage *rehearse(Publication *p, GError **error)
{
    if (*p->wanted && (!read_digest(p, error) || !compare_digest(p, error)))
        return NULL;
    return describe(p);
}

static VrImage *publish(Publication *p, gboolean *already, GError **error)
{
    g_autoptr(VrImage) existing = NULL;
    if (!check_before(p, &existing, error))
        return NULL;
    *already = existing != NULL;
    if (existing)
        return vr_store_get(p->store, existing->name, existing->version, error);
    if (p->asked->dry_run)
        return rehearse(p, error);
    return make(p, already, error) ? vr_store_get(p->store, p->asked->name, p->asked->version, error) : NULL;
}

gboolean vr_store_publish(VrStore *store, const VrPublication *publication, VrImage **image, gboolean *already,
                          GError **error)
{
    g_auto(Publication) p = {.store = store, .asked = publication, .source_fd = -1};
    gboolean was_there = FALSE;
    g_autoptr(VrImage) made = publish(&p, &was_there, error);
    gboolean ok = made != NULL;
    if (already)
        *already = ok && was_there;
    if (image)
        *image = g_steal_pointer(&made);
    return ok;
}
