/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer over the image check (A9): any bytes give a verdict, no read is outside them, and what is accepted is what the
 * rules say of it. Built with the preset "fuzz" it searches; built as every test it goes over its corpus once.
 */
#include "disk/image_private.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *bytes, gsize size);

typedef struct {
    const guint8 *bytes;
    gsize size;
} Input;

static gboolean read_input(void *data, void *into, gsize length, guint64 offset, gsize *got, GError **error)
{
    const Input *input = data;
    if (offset > input->size || length > input->size - offset)
        abort();
    memcpy(into, input->bytes + offset, length);
    *got = length;
    return TRUE;
}

/* Runs of zeros of 4 KiB are holes, as a file system would have them. */
static guint64 next_data(void *data, guint64 offset)
{
    static const guint8 zeros[4096];
    const Input *input = data;
    guint64 at = offset;
    while (at + sizeof zeros <= input->size && memcmp(input->bytes + at, zeros, sizeof zeros) == 0)
        at += sizeof zeros;
    return at < input->size ? at : G_MAXUINT64;
}

static void check(Input *input, const VrImagePolicy *policy)
{
    VrImageVerdict verdict;
    const VrImageBytes source = {input, input->size, read_input, next_data};
    if (!vr_image_check_bytes(&source, policy, &verdict, NULL))
        abort(); /* these reads never fail */
    if (verdict.accepted != (verdict.rule == VR_RULE_NONE) || verdict.accepted != (verdict.reason[0] == '\0'))
        abort();
    if (verdict.accepted && (verdict.virtual_size == 0 || verdict.virtual_size % 512 || (verdict.features & 7)))
        abort();
    g_auto(GStrv) features = vr_image_verdict_features(&verdict);
    (void)features;
}

int LLVMFuzzerTestOneInput(const guint8 *bytes, gsize size)
{
    Input input = {bytes, size};
    check(&input, &(VrImagePolicy){.allow_compressed = TRUE, .allow_backing = TRUE});
    check(&input, &(VrImagePolicy){.file_name = "x.raw", .max_virtual_size = G_GUINT64_CONSTANT(1) << 40});
    return 0;
}
