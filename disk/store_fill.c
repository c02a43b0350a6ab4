/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the bytes of what was given become the disk of a version. One uncompressed file in the format that is stored is copied
 * and summed at once:
 *
 *   image check on the source -> its signature, if one was given -> V/disk.FMT made 0444, copied, summed, flushed -> digest as
 *   asked, source as it was -> image check again on the copy's own descriptor
 *
 * All else comes through a copy of our own in the temp directory, so what was summed and checked is what is unpacked, and
 * nobody else can write to it meanwhile: standard input and compressed files, images with compressed clusters or in another
 * format, and chains, link by link:
 *
 *   read, summed, inflated into the temp directory -> digest and signature -> image check -> the chain: each link names the
 *   next, and the last stands alone -> converted into V/disk.FMT, flushed -> image check of that
 *
 * What has the right format by then becomes V/disk.FMT itself. qemu-img is asked about the last link and about the result,
 * and not about links above: it would open what their names point at. They are read by the tables that our rules walked.
 */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/image_tool.h"
#include "disk/publish_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

char *vr_publication_disk_name(const Publication *p)
{
    return g_strconcat("disk.", vr_image_format_name(p->format), NULL);
}

/* Where the checked image of a source lies. */
static int image_fd(const VrSource *s)
{
    return s->own_fd >= 0 ? s->own_fd : s->fd;
}

/* Once the sources were checked: are they one file that can be stored as it is? */
static gboolean is_as_stored(const Publication *p)
{
    const VrImageVerdict *top = &p->sources[0].verdict;
    return p->n_sources == 1 && top->format == p->format && !top->compressed;
}

/* ---- space ---- */

/* result: bytes that the converted disk will take. What is not copied yet is either the disk itself, or a copy of our own that
 * lies beside it; holes stay holes, and a stream is watched while it comes. */
static gboolean require_space(const Publication *p, guint64 result, GError **error)
{
    guint64 available, needed = result + VR_SPACE_MARGIN;
    if (!p->store)
        return TRUE;
    for (guint i = 0; i < p->n_sources; i++)
        if (!vr_source_is_stream(&p->sources[i]) && p->sources[i].own_fd < 0)
            needed += (guint64)p->sources[i].st.st_blocks * 512;
    if (!vr_store_free_bytes(p->store, &available, error))
        return FALSE;
    if (available >= needed)
        return TRUE;
    g_autofree char *have = g_format_size_full(available, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *need = g_format_size_full(needed, G_FORMAT_SIZE_IEC_UNITS);
    g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE, "%s has %s free and %s are needed", p->store->root, have, need);
    return FALSE;
}

/* ---- a chain ---- */

static gboolean refuse_link(const VrSource *s, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
static gboolean refuse_link(const VrSource *s, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is refused (rule %s): %s", s->shown,
                vr_image_rule_name(VR_RULE_BACKING_FILE), why);
    return FALSE;
}

/* The admin says what lies below; what the header says must not contradict him. Its name is compared, never opened. */
static gboolean check_link(const VrSource *s, const VrSource *below, GError **error)
{
    const VrImageVerdict *v = &s->verdict;
    g_autofree char *named = g_path_get_basename(v->backing_name);
    g_autofree char *shown = vr_printable(v->backing_name, -1);
    g_autofree char *format = vr_printable(v->backing_format, -1);
    VrImageFormat promised;
    if (!*v->backing_name)
        return refuse_link(s, error, "it stands alone, so %s is not below it", below->shown);
    if (strcmp(named, below->inner_name) != 0)
        return refuse_link(s, error, "its backing file is '%s', and %s is named below it", shown, below->shown);
    if (*v->backing_format && strcmp(v->backing_format, vr_image_format_name(below->verdict.format)) != 0)
        return refuse_link(s, error, "it says that its backing file is %s, and %s is %s", format, below->shown,
                           vr_image_format_name(below->verdict.format));
    if (!*v->backing_format && !vr_image_format_of_name(below->inner_name, &promised))
        return refuse_link(
            s, error,
            "it does not say whether its backing file is raw or qcow2, and %s has no suffix .raw or .qcow2 "
            "that says so: its first bytes may be a guest's",
            below->shown);
    return TRUE;
}

static gboolean check_chain(const Publication *p, GError **error)
{
    const VrSource *last = &p->sources[p->n_sources - 1];
    for (const VrSource *s = p->sources; s < last; s++)
        if (!check_link(s, s + 1, error))
            return FALSE;
    g_autofree char *shown = vr_printable(last->verdict.backing_name, -1);
    return !*last->verdict.backing_name ||
           refuse_link(last, error, "its backing file is '%s', which --flatten does not name", shown);
}

/* qemu-img on the link that stands alone. */
static gboolean ask_tool(Publication *p, GError **error)
{
    VrSource *last = &p->sources[p->n_sources - 1];
    return vr_image_tool_check(image_fd(last), &last->verdict, NULL, error) &&
           vr_image_verdict_require(&last->verdict, last->shown, error);
}

/* ---- the disk ---- */

/* Read-only from the start: so the one flush at the end of the copy covers the mode too. */
static int create_disk(const Publication *p, int dir_fd, GError **error)
{
    g_autofree char *name = vr_publication_disk_name(p);
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0400, error);
    if (fd >= 0 && fchmod(fd, 0444) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", name);
        return -1;
    }
    return vr_fd_steal(&fd);
}

static gboolean check_result(Publication *p, int fd, GError **error)
{
    VrImageVerdict verdict;
    if (!vr_image_check(fd, NULL, &verdict, error) || !vr_image_verdict_require(&verdict, "the copy", error))
        return FALSE;
    if (verdict.format != p->format) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s is refused (rule %s): as a raw disk it would begin like a qcow2 image", p->sources[0].shown,
                    vr_image_rule_name(VR_RULE_FORMAT));
        return FALSE;
    }
    if (!vr_image_tool_check(fd, &verdict, NULL, error) ||
        !vr_image_verdict_require(&verdict, p->sources[0].shown, error))
        return FALSE;
    if (verdict.file_size == p->file_size && verdict.virtual_size == p->virtual_size)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->sources[0].shown);
    return FALSE;
}

static void expect(Publication *p, guint64 file_size, guint64 virtual_size)
{
    p->file_size = file_size;
    p->virtual_size = virtual_size;
}

static VrCopyJob copy_job(const Publication *p)
{
    return (VrCopyJob){.limit_rate = p->asked->limit_rate,
                       .cancelled = p->asked->cancelled,
                       .progress = p->asked->progress,
                       .progress_data = p->asked->progress_data};
}

static gboolean copy_disk(Publication *p, int dir_fd, GError **error)
{
    VrSource *s = &p->sources[0];
    if (p->signature && !vr_publication_vouch(p, error))
        return FALSE;
    vr_autofd fd = create_disk(p, dir_fd, error);
    if (fd < 0)
        return FALSE;
    VrCopyJob job = copy_job(p);
    job.source_fd = s->fd;
    job.target_fd = fd;
    job.length = (guint64)s->st.st_size;
    if (!vr_copy(&job, p->stored, error) || !vr_source_unchanged(s, error))
        return FALSE;
    if (s->vouched && strcmp(p->stored, s->digest) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", s->shown);
        return FALSE;
    }
    memcpy(s->digest, p->stored, sizeof s->digest); /* stored byte for byte */
    expect(p, s->verdict.file_size, s->verdict.virtual_size);
    return vr_source_compare(s, error) && check_result(p, fd, error);
}

/* ---- conversion ---- */

typedef struct {
    VrConvertLink links[VR_CONVERT_LINKS];
    VrConvertJob job;
} Conversion;

static void conversion_of(const Publication *p, Conversion *c)
{
    for (guint i = 0; i < p->n_sources; i++)
        c->links[i] = (VrConvertLink){image_fd(&p->sources[i]), p->sources[i].verdict.format};
    c->job = (VrConvertJob){.links = c->links, .n_links = p->n_sources, .format = p->format, .copy = copy_job(p)};
}

/* The tables passed our rules, so what is damaged is what they point to: a packed cluster. */
static gboolean refuse_damaged(const Publication *p, GError **error)
{
    if (error && g_error_matches(*error, VR_ERROR, VR_ERROR_INVALID))
        (*error)->code = VR_ERROR_REFUSED;
    g_prefix_error(error, "%s: ", p->sources[0].shown);
    return FALSE;
}

static gboolean plan_conversion(Publication *p, const Conversion *c, GError **error)
{
    VrConvertPlan plan;
    if (!vr_convert_plan(&c->job, &plan, error))
        return refuse_damaged(p, error);
    expect(p, plan.file_size, plan.virtual_size);
    return require_space(p, p->format == VR_FORMAT_RAW ? plan.data : plan.file_size, error);
}

static gboolean convert_disk(Publication *p, int dir_fd, GError **error)
{
    Conversion c;
    conversion_of(p, &c);
    if (!plan_conversion(p, &c, error))
        return FALSE;
    vr_autofd fd = create_disk(p, dir_fd, error);
    if (fd < 0)
        return FALSE;
    c.job.copy.target_fd = fd;
    if (!vr_convert(&c.job, NULL, p->stored, error))
        return refuse_damaged(p, error);
    return check_result(p, fd, error);
}

/* ---- through a copy of our own ---- */

static char *spool_name(guint i)
{
    return g_strdup_printf("input-%u", i);
}

static gboolean spool_all(Publication *p, int tmp_fd, GError **error)
{
    for (guint i = 0; i < p->n_sources; i++) {
        g_autofree char *name = spool_name(i);
        p->sources[i].own_fd = vr_open_beneath(tmp_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600, error);
        if (p->sources[i].own_fd < 0 || !vr_publication_spool(p, &p->sources[i], error))
            return FALSE;
    }
    return check_chain(p, error) && ask_tool(p, error);
}

/* Its bytes are in the temp directory already. */
static gboolean keep_spooled(Publication *p, int tmp_fd, int dir_fd, GError **error)
{
    const VrSource *s = &p->sources[0];
    g_autofree char *from = spool_name(0);
    g_autofree char *name = vr_publication_disk_name(p);
    memcpy(p->stored, s->image, sizeof p->stored);
    expect(p, s->verdict.file_size, s->verdict.virtual_size);
    if (fchmod(s->own_fd, 0444) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of the disk");
        return FALSE;
    }
    return vr_fsync(s->own_fd, name, error) && vr_durable_rename(tmp_fd, from, dir_fd, name, error);
}

gboolean vr_publication_fill(Publication *p, int tmp_fd, int dir_fd, GError **error)
{
    if (!vr_source_is_stream(&p->sources[0]) && is_as_stored(p))
        return copy_disk(p, dir_fd, error);
    if (!spool_all(p, tmp_fd, error))
        return FALSE;
    return is_as_stored(p) ? keep_spooled(p, tmp_fd, dir_fd, error) : convert_disk(p, dir_fd, error);
}

/* ---- before anything is written ---- */

gboolean vr_publication_look(Publication *p, GError **error)
{
    Conversion c;
    gboolean all = TRUE;
    for (guint i = 0; i < p->n_sources; i++)
        if (vr_source_is_stream(&p->sources[i]))
            all = FALSE;
        else if (!vr_publication_check(p, &p->sources[i], error))
            return FALSE;
    if (all && !check_chain(p, error))
        return FALSE;
    if (!all || is_as_stored(p))
        return require_space(p, 0, error);
    conversion_of(p, &c);
    return plan_conversion(p, &c, error);
}

static gboolean spool_nameless(Publication *p, VrSource *s, GError **error)
{
    const char *where = p->store ? p->store->root : "/var/tmp";
    s->own_fd = open(where, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->own_fd >= 0)
        return vr_publication_spool(p, s, error);
    vr_set_error_errno(error, errno, "cannot make a file without a name in %s", where);
    return FALSE;
}

gboolean vr_publication_rehearse(Publication *p, GError **error)
{
    Conversion c;
    for (guint i = 0; i < p->n_sources; i++)
        if (vr_source_is_stream(&p->sources[i]) && !spool_nameless(p, &p->sources[i], error))
            return FALSE;
    if (!vr_publication_vouch(p, error) || !check_chain(p, error) || !ask_tool(p, error))
        return FALSE;
    expect(p, p->sources[0].verdict.file_size, p->sources[0].verdict.virtual_size);
    if (is_as_stored(p))
        return TRUE;
    conversion_of(p, &c);
    return plan_conversion(p, &c, error);
}
