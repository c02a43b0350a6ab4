/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How an instance leaves with a disk of its own.
 *
 *   1. audit: "releasing"
 *   2. the disk stands alone. Of a guest that is off, a swap of its own does it: the new generation is a copy of overlay and version in one file
 *      (swap_flatten.c), and the old one is kept like any other. Of one that runs, QEMU takes the version below into the overlay (a block
 *      pull), without downtime and under the same name; at its end QEMU cuts the name of the version out of the file.
 *   3. libvirt's configuration says so too: the chain of the disk ends at its file, and our record is gone, from the live XML as well
 *   4. journal, in one transaction: the current generation is RELEASED and not ours, the instance is in no set
 *
 * Killed in 2, a swap is finished or undone by recovery like any swap, and a pull goes on without us: a guest that stops in the middle of it has an
 * overlay that is still one, of the same content. Killed in 3 or before 4, the instance is in its set as before, on a disk that
 * stands alone. In all of these cases the next release looks at what there is and goes on from there; each step finds what is done and does not
 * do it again. There is no way back, and none is needed: whatever was reached is a whole disk that the guest runs on.
 *
 * Between QEMU's cut and libvirt's file the configuration may still name the version below a disk that needs none. That gives the same content:
 * of what the version has, nothing is unallocated in the disk any more.
 */
#include "engine/release.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/backing.h"
#include "disk/flatten.h"
#include "engine/preflight.h"
#include "engine/swap_private.h"

#include <string.h>
#include <sys/stat.h>

#define POLL_MS 250
#define SETTLE_MS 10000 /* libvirt writes down the end of a job on its own */
#define PULL_TRIES 3

void vr_release_plan_clear(VrReleasePlan *plan)
{
    g_clear_pointer(&plan->domain, g_free);
    g_clear_pointer(&plan->target, g_free);
    g_clear_pointer(&plan->path, g_free);
    g_clear_pointer(&plan->below, g_free);
}

/* --- the audit --------------------------------------------------------------------------------------- */

/* Within a transaction. */
static gboolean read_last(VrDb *db, const char *uuid, gboolean *open, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT kind = '" VR_RELEASE_BEGUN "' FROM events WHERE uuid = ? AND " VR_RELEASE_KINDS
                      " ORDER BY seq DESC LIMIT 1",
                      "s", uuid);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    *open = row == 1 && sqlite3_column_int(stmt, 0) != 0;
    return row >= 0;
}

gboolean vr_release_is_open(VrJournal *journal, const char *uuid, gboolean *open, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    gboolean ok;

    if (!vr_db_begin_read(db, error))
        return FALSE;
    ok = read_last(db, uuid, open, error);
    vr_db_rollback(db);
    return ok;
}

GPtrArray *vr_release_open_ones(VrJournal *journal, const char *set_name, GError **error)
{
    g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);
    VrDb *db = vr_journal_db(journal);
    int row = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt =
            vr_db_prepare(db, error,
                          "SELECT uuid FROM events WHERE set_name = ? AND kind = '" VR_RELEASE_BEGUN "' AND seq IN "
                          "(SELECT MAX(seq) FROM events WHERE " VR_RELEASE_KINDS " GROUP BY uuid) ORDER BY uuid",
                          "s", set_name);
        while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
            g_ptr_array_add(uuids, vr_db_text(stmt, 0));
    }
    vr_db_rollback(db);
    return row == 0 ? g_steal_pointer(&uuids) : NULL;
}

/* A process that loses libvirt, or the set, does not know how it ended. */
static void note_stop(const VrEngine *engine, const char *uuid, const GError *why)
{
    g_autoptr(GError) local = NULL;

    if (g_error_matches(why, VR_ERROR, VR_ERROR_DISCONNECTED) || g_error_matches(why, VR_ERROR, VR_ERROR_FENCED))
        return;
    if (!vr_journal_event(engine->journal, engine->owner, NULL, uuid, VR_RELEASE_STOPPED, why->message, &local))
        vr_warning(uuid, "that its release was stopped is not in the audit: %s", local->message);
}

/* --- looking ----------------------------------------------------------------------------------------- */

/* The domain as it is, and what the journal has of it. */
typedef struct {
    VrDomainInfo info;
    char *xml;
    VrDomainDef *def;
    const VrDomainDisk *disk; /* of def */
    char *path;
    VrGeneration *current; /* NULL: it was never swapped, nor adopted */
} Subject;

static void subject_clear(Subject *subject)
{
    vr_domain_info_clear(&subject->info);
    g_clear_pointer(&subject->xml, g_free);
    g_clear_pointer(&subject->def, vr_domain_def_free);
    g_clear_pointer(&subject->path, g_free);
    g_clear_pointer(&subject->current, vr_generation_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Subject, subject_clear)

static gboolean is_recorded(const VrEngine *engine, const Subject *subject, GError **error)
{
    g_autofree char *ours = g_strdup_printf("%s/disks/%s/", vr_store_root(engine->store), subject->info.uuid);
    gboolean released = FALSE;

    if (subject->current && g_str_equal(subject->current->path, subject->path))
        return TRUE;
    if (!subject->current &&
        !vr_journal_is_released(engine->journal, subject->info.uuid, subject->path, &released, error))
        return FALSE;
    if (!subject->current && (released || !g_str_has_prefix(subject->path, ours)))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the OS disk of '%s' is %s, and what is recorded is %s",
                subject->info.name, subject->path, subject->current ? subject->current->path : "none of ours");
    vr_error_now(error, "somebody changed the domain, or state.db is an old copy");
    vr_error_next(error, "put the disk back with 'virsh edit %s', then try again", subject->info.name);
    return FALSE;
}

static gboolean has_open_swap(const VrEngine *engine, const Subject *subject, gboolean *has, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwapRow) last = vr_journal_last_swap(engine->journal, subject->info.uuid, &local);

    *has = last && !vr_swap_state_is_final(last->state);
    if (!local)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean read_subject(const VrEngine *engine, const VrReleaseRequest *request, Subject *subject, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean open;

    if (!vr_hv_info(engine->hv, request->uuid, &subject->info, error))
        return FALSE;
    subject->xml = vr_hv_inactive_xml(engine->hv, request->uuid, error);
    subject->def = subject->xml ? vr_domain_def_parse(subject->xml, error) : NULL;
    subject->disk = subject->def ? vr_domain_def_os_disk(subject->def, request->os_target, error) : NULL;
    if (!subject->disk)
        return FALSE;
    if (!subject->disk->source && !subject->disk->pool) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the OS disk of '%s' is empty", subject->info.name);
        return FALSE;
    }
    subject->path = vr_swap_disk_path(subject->disk);
    subject->current = vr_journal_current(engine->journal, request->uuid, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!is_recorded(engine, subject, error) || !has_open_swap(engine, subject, &open, error))
        return FALSE;
    if (open) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' has an open swap", subject->info.name);
        vr_error_next(error, "run 'virt-reimage recover' first");
    }
    return !open;
}

/* What its header names; NULL: it stands alone. Of a disk that is not ours, whatever lies below is not either. */
static gboolean read_below(const VrEngine *engine, const Subject *subject, char **below, GError **error)
{
    vr_autofd fd = -1;

    *below = NULL;
    if (!subject->current || !subject->current->ours)
        return TRUE;
    fd = vr_swap_open_own_disk(engine->store, subject->current, error);
    return fd >= 0 && vr_backing_name(fd, below, error);
}

/* One that we began and that goes on; any other job is for the preflight to refuse. */
static gboolean is_pulled_by_us(const VrEngine *engine, Subject *subject, gboolean *is, GError **error)
{
    VrBlockJob job;

    if (!vr_release_is_open(engine->journal, subject->info.uuid, is, error))
        return FALSE;
    *is = *is && subject->info.state != VR_DOMAIN_OFF;
    if (*is && !vr_hv_block_job(engine->hv, subject->info.uuid, subject->disk->target, &job, error))
        return FALSE;
    *is = *is && job.active && job.pull;
    return TRUE;
}

static gboolean require_fit(const VrEngine *engine, const VrReleaseRequest *request, const Subject *subject,
                            GError **error)
{
    const VrSwapNeeds needs = {.os_target = request->os_target, .ignored = request->ignored};
    g_autoptr(GPtrArray) findings = vr_swap_preflight(engine->store, engine->hv, &subject->info, subject->def, &needs);

    return vr_preflight_require(findings, subject->info.name, error);
}

/* A disk that is pulled takes what the version has on the file system; a new file all that the guest reads. */
static gboolean bytes_of(const VrEngine *engine, const Subject *subject, VrReleasePlan *plan, GError **error)
{
    struct stat st;
    vr_autofd fd = -1;
    g_autoptr(VrImage) base = NULL;

    if (plan->way == VR_RELEASE_PULL) {
        plan->bytes = stat(plan->below, &st) == 0 ? (guint64)st.st_blocks * 512 : 0;
        return TRUE;
    }
    base = vr_store_get(engine->store, subject->current->image, subject->current->version, error);
    fd = base ? vr_swap_open_own_disk(engine->store, subject->current, error) : -1;
    return fd >= 0 && vr_flatten_bytes(engine->store, fd, base, &plan->bytes, error);
}

static gboolean plan_way(const VrEngine *engine, const Subject *subject, VrReleasePlan *plan, GError **error)
{
    plan->running = subject->info.state != VR_DOMAIN_OFF;
    plan->domain = g_strdup(subject->info.name);
    plan->target = g_strdup(subject->disk->target);
    plan->path = g_strdup(subject->path);
    if (!read_below(engine, subject, &plan->below, error))
        return FALSE;
    plan->way = !plan->below ? VR_RELEASE_AS_IS : plan->running ? VR_RELEASE_PULL : VR_RELEASE_FLATTEN;
    if (plan->way == VR_RELEASE_AS_IS || plan->begun)
        return TRUE;
    return bytes_of(engine, subject, plan, error) && vr_flatten_has_room(engine->store, plan->bytes, error);
}

gboolean vr_release_look(const VrEngine *engine, const VrReleaseRequest *request, VrReleasePlan *plan, GError **error)
{
    g_auto(Subject) subject = {0};

    return read_subject(engine, request, &subject, error) && is_pulled_by_us(engine, &subject, &plan->begun, error) &&
           (plan->begun || require_fit(engine, request, &subject, error)) && plan_way(engine, &subject, plan, error);
}

/* --- off: a new file --------------------------------------------------------------------------------- */

/* The guest is off and stays off, so the swap needs no word on how to stop one. */
static gboolean flatten(const VrEngine *engine, const VrReleaseRequest *request, GError **error)
{
    const VrSwapRequest asked = {
        .uuid = request->uuid, .os_target = request->os_target, .flatten = TRUE, .ignored = request->ignored};
    g_autoptr(VrSwap) swap = vr_swap_begin(engine, &asked, error);
    g_autoptr(GError) why = NULL;

    if (!swap)
        return FALSE;
    if (vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &why))
        return vr_swap_commit(swap, NULL, error);
    if (vr_swap_undo(swap, why->message, error))
        g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* --- running: a block pull --------------------------------------------------------------------------- */

typedef struct {
    const VrEngine *engine;
    const VrReleaseRequest *request;
    const VrReleasePlan *plan;
    guint asked; /* how often the pull was */
} Pull;

static gboolean still_runs(const Pull *pull, GError **error)
{
    g_auto(VrDomainInfo) info = {0};

    if (!vr_hv_info(pull->engine->hv, pull->request->uuid, &info, error))
        return FALSE;
    if (info.state == VR_DOMAIN_RUNNING || info.state == VR_DOMAIN_PAUSED)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' was stopped while its disk was made to stand alone",
                pull->plan->domain);
    vr_error_now(error, "nothing is lost, and releasing it again goes on");
    return FALSE;
}

/* By the file itself. */
static gboolean is_alone(const Pull *pull, gboolean *alone, GError **error)
{
    g_auto(VrDiskLook) look = {0};

    if (!vr_disk_file_look(pull->plan->path, "qcow2", &look, error))
        return FALSE;
    *alone = look.backing == NULL;
    return TRUE;
}

/* An answer that was lost is read back by the next look at the job. */
static gboolean ask(Pull *pull, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (pull->asked++ == PULL_TRIES) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR,
                    "'%s': the block pull of %s ended before its end, perhaps for lack of space", pull->plan->domain,
                    pull->plan->target);
        vr_error_now(error, "the disk is as it was, and the log of its QEMU may say more");
        return FALSE;
    }
    if (!vr_owner_check(pull->engine->journal, pull->engine->owner, error))
        return FALSE;
    if (vr_hv_block_pull(pull->engine->hv, pull->request->uuid, pull->plan->target, &local) ||
        g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* One look: *done, or something is under way. */
static gboolean pull_step(Pull *pull, gboolean *done, GError **error)
{
    VrBlockJob job;

    if (!still_runs(pull, error) ||
        !vr_hv_block_job(pull->engine->hv, pull->request->uuid, pull->plan->target, &job, error))
        return FALSE;
    *done = FALSE;
    if (!job.active)
        return is_alone(pull, done, error) && (*done || ask(pull, error));
    if (pull->request->progress)
        pull->request->progress(&job, pull->request->data);
    return TRUE;
}

/* A libvirtd that is restarted is waited for; the job is QEMU's. */
static gboolean pull_disk(Pull *pull, GError **error)
{
    gint64 lost_ms = 0;

    for (;;) {
        g_autoptr(GError) local = NULL;
        gboolean done;

        if (pull_step(pull, &done, &local)) {
            lost_ms = 0;
            if (done)
                return TRUE;
        } else if (!g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED) ||
                   (lost_ms > 0 && vr_clock_now_ms() > lost_ms + SETTLE_MS)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        } else if (lost_ms == 0) {
            lost_ms = vr_clock_now_ms();
        }
        vr_clock_sleep_until(vr_clock_now_ms() + POLL_MS);
    }
}

gboolean vr_release_alone(const VrEngine *engine, const VrReleaseRequest *request, const VrReleasePlan *plan,
                          GError **error)
{
    g_autofree char *text = plan->below ? g_strdup_printf("%s lies on %s", plan->path, plan->below)
                                        : g_strdup_printf("%s stands alone", plan->path);
    Pull pull = {.engine = engine, .request = request, .plan = plan};
    GError *local = NULL;

    if (!vr_journal_event(engine->journal, engine->owner, NULL, request->uuid, VR_RELEASE_BEGUN, text, error))
        return FALSE;
    if (plan->way == VR_RELEASE_AS_IS || (plan->way == VR_RELEASE_FLATTEN && flatten(engine, request, &local)) ||
        (plan->way == VR_RELEASE_PULL && pull_disk(&pull, &local)))
        return TRUE;
    note_stop(engine, request->uuid, local);
    g_propagate_error(error, local);
    return FALSE;
}

/* --- the domain -------------------------------------------------------------------------------------- */

static gboolean is_let_go(const char *xml, const Subject *subject)
{
    gboolean ours = subject->current && subject->current->ours;
    g_auto(VrDomainRecordRead) record = {0};

    return !vr_domain_xml_record(xml, &record) && (!ours || vr_domain_xml_is_alone(xml, subject->disk->target));
}

/* Whatever the define answers, what is true is read back; one whose answer was lost may not be flushed, and is done again. */
static gboolean define(const VrEngine *engine, const Subject *subject, GError **error)
{
    gboolean ours = subject->current && subject->current->ours;
    g_autofree char *xml = vr_domain_xml_released(subject->xml, subject->disk->target, ours, error);
    g_autofree char *now = NULL;
    g_autoptr(GError) local = NULL;

    if (!xml || !vr_owner_check(engine->journal, engine->owner, error))
        return FALSE;
    if (!vr_hv_define(engine->hv, subject->info.uuid, xml, &local))
        vr_warning(subject->info.name, "define: %s; reading back what is true", local->message);
    now = vr_hv_inactive_xml(engine->hv, subject->info.uuid, error);
    if (!now)
        return FALSE;
    if (is_let_go(now, subject))
        return vr_domain_xml_prove(subject->xml, now, subject->disk->target, error) &&
               (!local || (vr_owner_check(engine->journal, engine->owner, error) &&
                           vr_hv_define(engine->hv, subject->info.uuid, xml, error)));
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "libvirt took the XML of '%s' without our record, but its answer has it still", subject->info.name);
    return FALSE;
}

/* NULL without error: it is off by now. */
static char *live_xml(const VrEngine *engine, const Subject *subject, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autoptr(GError) local = NULL;
    char *live = vr_hv_live_xml(engine->hv, subject->info.uuid, &local);

    if (live || (g_error_matches(local, VR_ERROR, VR_ERROR_HYPERVISOR) &&
                 vr_hv_info(engine->hv, subject->info.uuid, &info, NULL) && info.state == VR_DOMAIN_OFF))
        return live;
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

/* What is taken out of the configuration alone would be seen in 'virsh dumpxml' until the guest stops. */
static gboolean let_go_live(const VrEngine *engine, const Subject *subject, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + SETTLE_MS;
    g_autoptr(GError) local = NULL;

    for (;;) {
        g_autofree char *live = live_xml(engine, subject, &local);
        g_auto(VrDomainRecordRead) record = {0};

        if (local)
            break;
        if (!live || is_let_go(live, subject))
            return TRUE;
        if (vr_clock_now_ms() > deadline_ms) {
            g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                        "'%s': its live XML still has our record, or a file below its OS disk", subject->info.name);
            return FALSE;
        }
        if (vr_domain_xml_record(live, &record) && (!vr_owner_check(engine->journal, engine->owner, &local) ||
                                                    !vr_hv_drop_live_record(engine->hv, subject->info.uuid, &local)))
            break;
        vr_clock_sleep_until(vr_clock_now_ms() + POLL_MS);
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean let_go(const VrEngine *engine, const Subject *subject, GError **error)
{
    return (is_let_go(subject->xml, subject) || define(engine, subject, error)) &&
           (subject->info.state == VR_DOMAIN_OFF || let_go_live(engine, subject, error));
}

/* --- the journal ------------------------------------------------------------------------------------- */

static gboolean set_released(VrDb *db, const Subject *subject, const VrFileId *file, GError **error)
{
    const VrGeneration *current = subject->current;
    int changes = 0;

    if (!current)
        return TRUE;
    if (!vr_db_run(db, &changes, error,
                   "UPDATE generations SET state = ?3, ours = 0, device = ?4, inode = ?5, born_ns = ?6 "
                   "WHERE uuid = ?1 AND number = ?2 AND state = ?7 "
                   /* 5, 6, 7: as in the index swaps_open */
                   "AND NOT EXISTS (SELECT 1 FROM swaps WHERE uuid = ?1 AND state NOT IN (5, 6, 7))",
                   "siiiiii", current->uuid, (gint64)current->number, (gint64)VR_GENERATION_RELEASED,
                   (gint64)file->device, (gint64)file->inode, file->born_ns, (gint64)VR_GENERATION_CURRENT))
        return FALSE;
    if (changes == 1)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s': a swap of it was begun meanwhile", subject->info.name);
    return FALSE;
}

static gboolean write_end(const VrEngine *engine, const Subject *subject, const VrFileId *file, VrReleaseLeave leave,
                          void *data, GError **error)
{
    VrDb *db = vr_journal_db(engine->journal);
    g_autofree char *text = g_strdup_printf("%s, device %" G_GUINT64_FORMAT ", inode %" G_GUINT64_FORMAT, subject->path,
                                            file->device, file->inode);

    if (!vr_owner_begin(engine->journal, engine->owner, error))
        return FALSE;
    if (set_released(db, subject, file, error) && leave(db, data, error) &&
        vr_journal_add_event(engine->journal, engine->owner, NULL, subject->info.uuid, VR_RELEASE_ENDED, text, error))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

/* A disk that is not ours may be a device, or on no path of this host. */
static gboolean identify(const VrEngine *engine, const Subject *subject, VrFileId *file, GError **error)
{
    const VrGeneration *current = subject->current;
    vr_autofd fd = -1;

    *file = (VrFileId){0};
    if (!current || !current->ours)
        return TRUE;
    fd = vr_swap_open_own_disk(engine->store, current, error);
    return fd >= 0 && vr_disk_file_id_of(fd, current->path, file, error);
}

static VrGeneration *found_of(const Subject *subject)
{
    VrGeneration *found = g_new0(VrGeneration, 1);

    g_strlcpy(found->uuid, subject->info.uuid, sizeof(found->uuid));
    found->path = g_strdup(subject->path);
    found->format = g_strdup(subject->disk->driver ? subject->disk->driver : "raw");
    found->disk_type = g_strdup(subject->disk->type);
    found->state = VR_GENERATION_RELEASED;
    return found;
}

gboolean vr_release_end(const VrEngine *engine, const VrReleaseRequest *request, VrReleaseLeave leave, void *data,
                        VrGeneration **disk, GError **error)
{
    g_auto(Subject) subject = {0};
    g_autofree char *below = NULL;
    VrFileId file;

    if (!read_subject(engine, request, &subject, error) || !read_below(engine, &subject, &below, error))
        return FALSE;
    if (below) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s still lies on %s", subject.path, below);
        return FALSE;
    }
    if (!let_go(engine, &subject, error) || !identify(engine, &subject, &file, error) ||
        !write_end(engine, &subject, &file, leave, data, error))
        return FALSE;
    *disk = subject.current ? g_steal_pointer(&subject.current) : found_of(&subject);
    return TRUE;
}
