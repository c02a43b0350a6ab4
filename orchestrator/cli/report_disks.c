/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof that other disks were left alone: how each instance's were read, and what each was. */
#include "orchestrator/cli/report_private.h"

/* "2026-11-23 10:00:00, while it was off" */
static void add_reading(GString *page, const json_t *proof, const char *when, const char *how, const char *more)
{
    g_autofree char *time = vr_report_time(proof, when);
    const char *text = vr_report_text(proof, how);

    g_string_append_printf(page, "<td class=\"w\">%s", time);
    vr_report_add(page, "%s%s%s</td>", *text ? ", " : "", text, more);
}

static void add_proof(GString *page, const json_t *instance, const json_t *proof)
{
    gboolean untouched = json_is_true(json_object_get(proof, "untouched"));

    vr_report_begin_row(page, vr_report_text(instance, "domain"));
    vr_report_add(page, "<td class=\"%s\">%s</td>", untouched ? "good" : "bad", untouched ? "yes" : "not proven");
    add_reading(page, proof, "readTime", "firstReading", "");
    add_reading(page, proof, "provenTime", "secondReading",
                json_is_true(json_object_get(proof, "wayBack")) ? ", on the way back" : "");
    vr_report_add_cell(page, vr_report_text(proof, "content"));
    vr_report_add_words(page, vr_report_text(proof, "notComparable"));
    vr_report_end_row(page);
}

void vr_report_readings(GString *page, const json_t *document)
{
    static const char *const columns[] = {
        "Instance", "Proven untouched", "First reading", "Second reading", "Content read", "Not comparable", NULL};
    size_t i;
    json_t *instance;

    vr_report_begin_table(page, "How its other disks were read before the switch, and again after it", columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        const json_t *proof = json_object_get(instance, "dataDisks");

        if (json_is_object(proof))
            add_proof(page, instance, proof);
    }
    vr_report_end_table(page);
}

static void add_digest(GString *page, const char *digest)
{
    vr_report_add(page, "<td class=\"h\"><code>%s</code></td>", *digest ? digest : "-");
}

static void add_disk(GString *page, const json_t *instance, const json_t *disk)
{
    vr_report_begin_row(page, vr_report_text(instance, "domain"));
    vr_report_add_cell(page, vr_report_text(disk, "target"));
    vr_report_add_words(page, vr_report_text(disk, "path"));
    vr_report_add_number(page, disk, "sizeBytes");
    vr_report_add_number(page, disk, "depth");
    vr_report_add_flag(page, disk, "shareable");
    vr_report_add_flag(page, disk, "madeAnew");
    vr_report_add_number(page, disk, "device");
    vr_report_add_number(page, disk, "inode");
    add_digest(page, vr_report_text(disk, "headSha256"));
    add_digest(page, vr_report_text(disk, "contentSha256"));
    vr_report_end_row(page);
}

void vr_report_disks(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Instance",
                                          "Disk",
                                          "File",
                                          ">Bytes",
                                          ">Below the disk",
                                          "Shared",
                                          "Made anew",
                                          ">Device",
                                          ">Inode",
                                          "SHA-256 of its beginning",
                                          "SHA-256 of what was read of it",
                                          NULL};
    size_t i, j;
    json_t *instance, *disk;

    vr_report_begin_table(page, "Every other disk of each instance, and the files below it", columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        json_array_foreach(json_object_get(json_object_get(instance, "dataDisks"), "disks"), j, disk)
            add_disk(page, instance, disk);
    }
    vr_report_end_table(page);
}
