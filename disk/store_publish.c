/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a version becomes visible:
 *
 *   names, digest, signature and key are read -> the source is opened -> is this version there already? -> image check on the
 *   source -> enough space -> locked temp directory images/NAME/.tmp-OPID with V/ in it -> V/disk.FMT made 0444,
 *   copied and hashed, flushed -> digest and signature as asked, source as it was -> image check again on the copy's own
 *   descriptor -> V/image.json -> under the database's write lock: still not there, publisher, offer and sku agree -> V
 *   renamed to VERSION without replacing -> directories flushed
 *
 * Standard input and compressed files come in one pass: they are read, summed and inflated into the temp directory, then
 * digest, signature and image are checked there, and that file becomes V/disk.FMT.
 *
 * Before the rename nothing is visible, and a crash leaves a temp directory that the sweep removes. The write lock makes
 * two publishers of one image take turns in the last step; a rename is short.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/image_tool.h"
#include "disk/publish_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SPOOL "input"
#define ATTEMPTS 10

/* ---- what was asked ---- */

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
    set_offer(p, asked->publisher, asked->offer, asked->sku);
    if (!p->store)
        return TRUE;
    g_autoptr(GPtrArray) images = vr_store_scan(p->store, NULL, error);
    for (guint i = 0; images && i < images->len; i++) {
        const VrImage *other = images->pdata[i];
        gboolean same_name = strcmp(other->name, asked->name) == 0;
        if (same_name && !asked->publisher)
            set_offer(p, other->publisher, other->offer, other->sku);
        else if (asked->publisher && same_name != same_offer(other, asked->publisher, asked->offer, asked->sku))
            return offer_conflict(p, other, same_name, error);
    }
    return images != NULL;
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
    g_autoptr(VrImage) found = p->store ? find_existing(p, &local) : NULL;
    if (!found) {
        if (local)
            g_propagate_error(error, local);
        return local == NULL;
    }
    /* A digest says all; a signature must be one. */
    if ((!*p->wanted || p->signature) && !vr_publication_vouch(p, error))
        return FALSE;
    if (!accept_existing(found, *p->wanted ? p->wanted : p->digest, error))
        return FALSE;
    *existing = g_steal_pointer(&found);
    return TRUE;
}

/* ---- the copy ---- */

static gboolean check_space(Publication *p, GError **error)
{
    if (!p->store || vr_publication_is_stream(p))
        return TRUE; /* a stream is watched while it comes */
    guint64 available, needed = (guint64)p->source.st_blocks * 512 + VR_SPACE_MARGIN; /* holes stay holes */
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
    if (!vr_image_tool_check(fd, &verdict, NULL, error) || !vr_image_verdict_require(&verdict, p->shown, error))
        return FALSE;
    if (verdict.file_size == p->verdict.file_size && verdict.virtual_size == p->verdict.virtual_size)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->shown);
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
    if (!vr_copy(&job, p->stored, error) || !vr_publication_unchanged(p, error))
        return FALSE;
    if (p->vouched && strcmp(p->stored, p->digest) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->shown);
        return FALSE;
    }
    memcpy(p->digest, p->stored, sizeof p->digest); /* stored byte for byte */
    return vr_publication_compare(p, error) && check_copy(p, fd, error);
}

/* What came through a stream becomes the disk: its bytes are in the temp directory already. */
static gboolean spool_disk(Publication *p, VrTmpdir *tmp, int dir_fd, GError **error)
{
    vr_autofd fd = vr_open_beneath(tmp->dir_fd, SPOOL, O_RDWR | O_CREAT | O_EXCL, 0600, error);
    if (fd < 0 || !vr_publication_spool(p, fd, error) || !check_copy(p, fd, error))
        return FALSE;
    if (fchmod(fd, 0444) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of the disk");
        return FALSE;
    }
    g_autofree char *name = disk_name(p);
    return vr_fsync(fd, name, error) && vr_durable_rename(tmp->dir_fd, SPOOL, dir_fd, name, error);
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
    memcpy(image->stored_digest, p->stored, sizeof image->stored_digest);
    image->rules_version = VR_IMAGE_RULES_VERSION;
    image->published_at = vr_clock_format(vr_clock_wall_us());
    if (p->signature) {
        image->signature_key = g_strdup(p->signature->key_id);
        image->signed_comment = g_strdup(p->signature->trusted_comment);
    }
    g_autofree char *disk = disk_name(p);
    if (p->store)
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

static gboolean make_in(Publication *p, VrTmpdir *tmp, gboolean *already, GError **error)
{
    vr_autofd version_fd = vr_mkdir_beneath(tmp->dir_fd, "v", VR_DIR_MODE, error);
    if (version_fd < 0)
        return FALSE;
    gboolean ok = vr_publication_is_stream(p) ? spool_disk(p, tmp, version_fd, error) : copy_disk(p, version_fd, error);
    return ok && make_visible(p, tmp, already, error);
}

/* The directory of an image goes when it is empty, so it may go under our hands until the temp directory is in it. */
static VrTmpdir *make_tmpdir(Publication *p, const char *relpath, GError **error)
{
    g_autofree char *opid = g_uuid_string_random();
    for (int i = 0;; i++) {
        g_autoptr(GError) local = NULL;
        vr_autofd name_fd = vr_mkdir_beneath(p->store->root_fd, relpath, VR_DIR_MODE, error);
        if (name_fd < 0)
            return NULL;
        VrTmpdir *tmp = vr_tmpdir_new(name_fd, opid, &local);
        if (tmp)
            return tmp;
        if (i < ATTEMPTS && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            continue;
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
}

static gboolean make(Publication *p, gboolean *already, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", p->asked->name, NULL);
    VrTmpdir *tmp = make_tmpdir(p, relpath, error);
    gboolean ok = tmp && make_in(p, tmp, already, error);
    vr_tmpdir_free(tmp);
    if (!ok)
        vr_store_drop_empty(p->store, relpath);
    return ok;
}

/* ---- all of it ---- */

static gboolean check_before(Publication *p, VrImage **existing, GError **error)
{
    if (!p->asked->dry_run && (!p->store || vr_db_is_read_only(p->store->db))) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "the store is open for reading only");
        return FALSE;
    }
    if (!check_names(p, error) || !vr_publication_terms(p, error) || !vr_publication_open(p, error) ||
        !check_offer(p, error) || !look_for_existing(p, existing, error))
        return FALSE;
    if (*existing || vr_publication_is_stream(p))
        return TRUE;
    return vr_publication_check(p, error) && check_space(p, error) && (!p->signature || vr_publication_vouch(p, error));
}

/* A stream needs a place where the image can be looked at: a file without a name, which is gone when it is closed. */
static gboolean rehearse_stream(Publication *p, GError **error)
{
    const char *where = p->store ? p->store->root : "/var/tmp";
    vr_autofd fd = open(where, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return vr_publication_spool(p, fd, error);
    vr_set_error_errno(error, errno, "cannot make a file without a name in %s", where);
    return FALSE;
}

/* What it would give. A digest that was asked for is compared, since that writes nothing. */
static VrImage *rehearse(Publication *p, GError **error)
{
    if (vr_publication_is_stream(p) ? !rehearse_stream(p, error)
                                    : *p->wanted && !p->vouched && !vr_publication_vouch(p, error))
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
