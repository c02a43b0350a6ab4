/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a version becomes visible:
 *
 *   names, digest, signature and key are read -> the sources are opened -> is this version there already? -> image check on the
 *   source -> enough space -> locked temp directory images/NAME/.tmp-OPID with v/ in it -> v/disk.FMT (store_fill.c) ->
 *   how it boots (image_esp.c) -> v/image.json -> under the database's write lock: still not there, publisher, offer and sku
 *   agree -> v renamed to VERSION without replacing -> directories flushed
 *
 * Before the rename nothing is visible, and a crash leaves a temp directory that the sweep removes. The write lock makes
 * two publishers of one image take turns in the last step; a rename is short.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/publish_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ATTEMPTS 10
#define MAX_ESP_BYTES (G_GUINT64_CONSTANT(512) << 20) /* that are copied, to look into it */

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
    if (same_name) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "image %s has publisher %s, offer %s and sku %s", other->name,
                    other->publisher ? other->publisher : "(none)", other->offer ? other->offer : "(none)",
                    other->sku ? other->sku : "(none)");
        vr_error_now(error, "all its versions have the same");
    } else {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "publisher %s, offer %s and sku %s are those of image %s",
                    p->asked->publisher, p->asked->offer, p->asked->sku, other->name);
    }
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
                "%s %s is there already with other content than sha256:%s, which was given", existing->name,
                existing->version, digest);
    vr_error_now(error, "sha256:%s is published", existing->source_digest);
    vr_error_next(error, "a version never changes, so publish this as a higher one");
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
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    gboolean said = p->n_sources == 1 && *p->sources[0].wanted && !p->signature;
    if (!said && !vr_publication_vouch(p, error))
        return FALSE;
    vr_publication_digest(p, digest);
    if (p->asked->as_given && found->format != p->asked->as) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s %s is there already as %s, and a version never changes",
                    found->name, found->version, vr_image_format_name(found->format));
        return FALSE;
    }
    if (!accept_existing(found, said ? p->sources[0].wanted : digest, error))
        return FALSE;
    *existing = g_steal_pointer(&found);
    return TRUE;
}

/* ---- the record ---- */

/* The record of the version as it will be. */
static VrImage *describe(const Publication *p)
{
    VrImage *image = g_new0(VrImage, 1);
    image->name = g_strdup(p->asked->name);
    image->version = g_strdup(p->asked->version);
    image->publisher = g_strdup(p->offer->publisher);
    image->offer = g_strdup(p->offer->offer);
    image->sku = g_strdup(p->offer->sku);
    image->format = p->format;
    image->file_size = p->file_size;
    image->virtual_size = p->virtual_size;
    vr_publication_digest(p, image->source_digest);
    memcpy(image->stored_digest, p->stored, sizeof image->stored_digest);
    image->rules_version = VR_IMAGE_RULES_VERSION;
    image->boot_recorded = p->boot_known;
    image->boot = p->boot;
    image->published_at = vr_clock_format(vr_clock_wall_us());
    if (p->signature) {
        image->signature_key = g_strdup(p->signature->key_id);
        image->signed_comment = g_strdup(p->signature->trusted_comment);
    }
    g_autofree char *disk = vr_publication_disk_name(p);
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

static gboolean accept_same(const Publication *p, const VrImage *existing, GError **error)
{
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_publication_digest(p, digest);
    return accept_existing(existing, digest, error);
}

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
        return accept_same(p, existing, error);
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

/* The last moment: qemu-img, which is asked before it, does not hear a cancel. */
static gboolean is_cancelled(const Publication *p, GError **error)
{
    if (!p->asked->cancelled || !g_atomic_int_get(p->asked->cancelled))
        return FALSE;
    g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "publishing %s %s was cancelled", p->asked->name,
                p->asked->version);
    return TRUE;
}

/* How it boots is an answer for later, and no reason not to publish: what cannot be read is not known. */
static void look_how_it_boots(Publication *p, int tmp_fd, int version_fd)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *disk = vr_publication_disk_name(p);
    vr_autofd fd = vr_open_beneath(version_fd, disk, O_RDONLY, 0, &local);
    guint64 available = 0;

    p->boot_known = fd >= 0 && vr_image_boot_look(fd, p->format, &p->boot, &local);
    if (!p->boot_known || !vr_store_free_bytes(p->store, &available, &local)) {
        vr_debug("%s %s: how it boots is not known: %s", p->asked->name, p->asked->version, local->message);
        return;
    }
    available -= MIN(available, VR_SPACE_MARGIN);
    const VrImageEsp esp = {fd, p->format, tmp_fd, MIN(available, MAX_ESP_BYTES), p->asked->cancelled};
    if (!vr_image_boot_loaders(&esp, &p->boot, &local))
        vr_debug("%s %s: %s", p->asked->name, p->asked->version, local->message);
}

static gboolean make_in(Publication *p, VrTmpdir *tmp, gboolean *already, GError **error)
{
    vr_autofd version_fd = vr_mkdir_beneath(tmp->dir_fd, "v", VR_DIR_MODE, error);
    if (version_fd < 0)
        return FALSE;
    if (!vr_publication_fill(p, tmp->dir_fd, version_fd, error))
        return FALSE;
    look_how_it_boots(p, tmp->dir_fd, version_fd);
    return !is_cancelled(p, error) && make_visible(p, tmp, already, error);
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

/* What the kernel says is of one file or the other; what it is about is the version. */
static void name_object(const Publication *p, GError **error)
{
    if (error && *error && ((*error)->code == VR_ERROR_IO || (*error)->code == VR_ERROR_NO_SPACE))
        g_prefix_error(error, "%s %s cannot be made in %s: ", p->asked->name, p->asked->version, p->store->root);
}

static gboolean make(Publication *p, gboolean *already, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", p->asked->name, NULL);
    VrTmpdir *tmp = make_tmpdir(p, relpath, error);
    gboolean ok = tmp && make_in(p, tmp, already, error);
    vr_tmpdir_free(tmp);
    if (!ok) {
        vr_store_drop_empty(p->store, relpath);
        name_object(p, error);
    }
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
    return *existing || vr_publication_look(p, error);
}

/* What it would give. */
static VrImage *rehearse(Publication *p, GError **error)
{
    return vr_publication_rehearse(p, error) ? describe(p) : NULL;
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
    g_auto(Publication)
        p = {.store = store, .asked = publication, .format = publication->as_given ? publication->as : VR_FORMAT_QCOW2};
    gboolean was_there = FALSE;
    g_autoptr(VrImage) made = publish(&p, &was_there, error);
    gboolean ok = made != NULL;
    if (already)
        *already = ok && was_there;
    if (image)
        *image = g_steal_pointer(&made);
    return ok;
}
