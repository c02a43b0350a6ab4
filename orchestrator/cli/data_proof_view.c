/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof that a swap left the other disks as they were, for instance-view and history. */
#include "orchestrator/cli/run_view.h"

char *vr_data_proof_line(const VrDataProof *proof)
{
    g_autofree char *text = vr_data_proof_text(proof);
    g_autofree char *at = vr_text_time(proof->proven_us);

    if (proof->proven_us == 0)
        return g_steal_pointer(&text);
    return g_strdup_printf("%s; proven at %s%s (read: %s)", text, at,
                           proof->phase == VR_PHASE_BACK ? " on the way back" : "",
                           proof->proven_in ? proof->proven_in : "-");
}

/* Null for what is no file of this host. */
static json_t *number_json(const VrFileProof *local, guint64 number)
{
    return local ? json_integer((json_int_t)number) : json_null();
}

static json_t *disk_json(const VrManifestEntry *entry)
{
    const VrFileProof *proof = entry->proof, *local = proof && proof->is_local ? proof : NULL;

    return json_pack(
        "{s:o, s:i, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o}", "target", vr_json_text(entry->target), "depth",
        (int)entry->depth, "path", vr_json_text(proof ? proof->path : NULL), "shareable", entry->shared, "madeAnew",
        entry->made_anew, "device", number_json(local, local ? local->file.device : 0), "inode",
        number_json(local, local ? local->file.inode : 0), "sizeBytes",
        number_json(local, local ? local->file.size : 0), "headSha256", vr_json_text(local ? local->head : NULL),
        "contentSha256", vr_json_text(local && local->content[0] ? local->content : NULL));
}

json_t *vr_data_proof_json(const VrDataProof *proof)
{
    json_t *disks;

    if (!proof)
        return json_null();
    disks = json_array();
    for (guint i = 0; i < proof->manifest->len; i++)
        json_array_append_new(disks, disk_json(g_ptr_array_index(proof->manifest, i)));
    return json_pack("{s:b, s:b, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "untouched", proof->proven_us > 0, "wayBack",
                     proof->phase == VR_PHASE_BACK, "readTime", vr_json_time(proof->taken_us), "provenTime",
                     vr_json_time(proof->proven_us), "notComparable", vr_json_text(proof->untold), "content",
                     vr_proof_content_name(vr_manifest_content(proof->manifest)), "firstReading",
                     vr_json_text(proof->taken_in), "secondReading", vr_json_text(proof->proven_in), "disks", disks);
}
