/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/manifest_private.h"

#include "base/error.h"
#include "engine/disk_users.h"
#include "hv/domain_xml.h"

#include <string.h>

static void entry_free(gpointer data)
{
    VrManifestEntry *entry = data;

    g_free(entry->target);
    g_free(entry->element);
    g_clear_pointer(&entry->proof, vr_file_proof_free);
    g_free(entry);
}

GPtrArray *vr_manifest_new(void)
{
    return g_ptr_array_new_with_free_func(entry_free);
}

/* --- taking it --------------------------------------------------------------------------------------- */

/* NULL in *path: nothing local is behind the disk. */
static gboolean resolve(VrHv *hv, const VrDomainDisk *disk, char **path, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_disk_local_path(hv, disk, path, &local) || g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static void add_entry(GPtrArray *manifest, const VrDomainDisk *disk, guint depth, const char *element,
                      VrFileProof *proof)
{
    VrManifestEntry *entry = g_new0(VrManifestEntry, 1);

    entry->target = g_strdup(disk->target);
    entry->depth = depth;
    entry->element = g_strdup(element);
    entry->shared = disk->shareable;
    entry->proof = proof;
    g_ptr_array_add(manifest, entry);
}

/* The medium of a drive that starts without it is not there. Takes why. */
static gboolean is_empty_drive(const VrDomainDisk *disk, GError *why, GError **error)
{
    if (disk->may_be_empty && g_error_matches(why, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_error_free(why);
        return TRUE;
    }
    g_propagate_error(error, why);
    return FALSE;
}

/* *proofs NULL: nothing local is behind the disk, or it is an empty drive. */
static gboolean read_disk(VrHv *hv, const VrDomainDisk *disk, VrProofContent content, GPtrArray **proofs,
                          GError **error)
{
    GError *local = NULL;
    g_autofree char *path = NULL;

    if (!resolve(hv, disk, &path, &local))
        return is_empty_drive(disk, local, error);
    if (!path)
        return TRUE;
    *proofs = vr_file_proof_read(path, disk->driver, disk->shareable ? VR_PROOF_NONE : content, &local);
    return *proofs || is_empty_drive(disk, local, error);
}

static gboolean add_disk(GPtrArray *manifest, VrHv *hv, const char *xml, const VrDomainDisk *disk,
                         VrProofContent content, GError **error)
{
    g_autofree char *text = vr_domain_xml_disk_text(xml, disk->target, error);
    g_autofree char *element = text ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1) : NULL;
    g_autoptr(GPtrArray) proofs = NULL;

    if (!text || !read_disk(hv, disk, content, &proofs, error))
        return FALSE;
    if (!proofs) {
        add_entry(manifest, disk, 0, element, NULL);
        return TRUE;
    }
    g_ptr_array_set_free_func(proofs, NULL);
    for (guint i = 0; i < proofs->len; i++)
        add_entry(manifest, disk, i, i == 0 ? element : "", g_ptr_array_index(proofs, i));
    return TRUE;
}

GPtrArray *vr_manifest_take(VrHv *hv, const char *xml, const char *os_target, VrProofContent content, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    const VrDomainDisk *os_disk = def ? vr_domain_def_os_disk(def, os_target, error) : NULL;
    g_autoptr(GPtrArray) manifest = vr_manifest_new();

    for (guint i = 0; os_disk && i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        g_autoptr(GError) local = NULL;
        if (disk == os_disk || disk->seed || add_disk(manifest, hv, xml, disk, content, &local))
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "its disk %s cannot be read: %s", disk->target, local->message);
        vr_error_adopt(error, local);
        return NULL;
    }
    return os_disk ? g_steal_pointer(&manifest) : NULL;
}

VrProofContent vr_manifest_content(const GPtrArray *manifest)
{
    VrProofContent content = VR_PROOF_NONE;

    for (guint i = 0; i < manifest->len; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(manifest, i);
        if (entry->proof)
            content = MAX(content, entry->proof->how);
    }
    return content;
}

guint64 vr_manifest_bytes(const GPtrArray *manifest, VrProofContent content)
{
    guint64 bytes = 0;

    for (guint i = 0; i < manifest->len && content != VR_PROOF_NONE; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(manifest, i);
        if (entry->proof && entry->proof->is_local && !entry->shared)
            bytes += vr_file_proof_bytes(entry->proof, content);
    }
    return bytes;
}

/* --- comparison -------------------------------------------------------------------------------------- */

static const VrManifestEntry *find(const GPtrArray *manifest, const char *target, guint depth)
{
    for (guint i = 0; i < manifest->len; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(manifest, i);
        if (entry->depth == depth && g_str_equal(entry->target, target))
            return entry;
    }
    return NULL;
}

/* Of a disk that others may write to, what they may not change. */
static char *identity_difference(const VrFileProof *before, const VrFileProof *now, gboolean *untold)
{
    VrFileProof same = *now;

    memcpy(same.head, before->head, sizeof same.head);
    same.file.mtime_ns = before->file.mtime_ns;
    return vr_file_proof_difference(before, &same, untold);
}

static char *difference(const VrManifestEntry *before, const VrManifestEntry *now, gboolean *untold)
{
    if (!now)
        return g_strdup(before->depth == 0 ? "it is gone" : "a file of its backing chain is gone");
    if (!before)
        return g_strdup(now->depth == 0 ? "it is new" : "its backing chain has another file");
    if (!g_str_equal(before->element, now->element))
        return g_strdup("its XML element");
    if (!before->proof || !now->proof)
        return before->proof != now->proof ? g_strdup("its file") : NULL;
    return before->shared ? identity_difference(before->proof, now->proof, untold)
                          : vr_file_proof_difference(before->proof, now->proof, untold);
}

/* untold: what cannot be told is appended to it; may be NULL. */
static gboolean all_found(const GPtrArray *in, const GPtrArray *other, gboolean in_is_before, GString *untold,
                          GError **error)
{
    for (guint i = 0; i < in->len; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(in, i);
        const VrManifestEntry *match = find(other, entry->target, entry->depth);
        gboolean open = FALSE;
        g_autofree char *text = in_is_before ? difference(entry, match, &open) : difference(match, entry, &open);
        if (open && untold)
            g_string_append_printf(untold, "%s%s %s", untold->len > 0 ? ", " : "", entry->target, entry->proof->path);
        if (!text)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "its disk %s was changed while the guest was off: %s",
                    entry->target, text);
        return FALSE;
    }
    return TRUE;
}

gboolean vr_manifest_compare(const GPtrArray *before, const GPtrArray *now, char **untold, GError **error)
{
    g_autoptr(GString) open = g_string_new(NULL);
    gboolean same = all_found(before, now, TRUE, open, error) && all_found(now, before, FALSE, NULL, error);

    *untold = open->len > 0 ? g_string_free(g_steal_pointer(&open), FALSE) : NULL;
    return same;
}
