/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/sweep_hv.h"

#include "base/clock.h"
#include "base/error.h"
#include "fault/points.h"
#include "hv/connection.h"

#include <string.h>
#include <time.h>

static const char *const uuids[SWEEP_GUESTS_MAX] = {SWEEP_GUEST_0, "11111111-2222-4333-8444-555555555551",
                                                    "11111111-2222-4333-8444-555555555552"};
static const char *const names[SWEEP_GUESTS_MAX] = {"web-0", "web-1", "web-2"};
static const char *const fault_names[SWEEP_FAULTS] = {
    "no fault",        "refused",         "lost before",    "lost after", "hung",       "hung, then done",
    "hung, done late", "restarts before", "restarts after", "gone",       "gone after", "lies"};

const char *sweep_guest_uuid(guint guest)
{
    return uuids[guest];
}

const char *sweep_guest_name(guint guest)
{
    return names[guest];
}

const char *sweep_fault_name(SweepFault fault)
{
    return fault_names[fault];
}

/* --- the clock --------------------------------------------------------------------------------------- */

static gint64 skipped_ms;

static gint64 jumping_now_ms(void *data)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 + skipped_ms;
}

static gint64 wall_us(void *data)
{
    return g_get_real_time();
}

/* A little further than was asked for. */
static void jump(gint64 deadline_ms, void *data)
{
    skipped_ms += MAX(0, deadline_ms - jumping_now_ms(NULL)) + 200;
}

void sweep_clock_skip(gint64 ms)
{
    skipped_ms += ms;
}

void sweep_clock_install(void)
{
    static const VrClockSource source = {jumping_now_ms, wall_us, jump, NULL};

    vr_clock_set_source(&source);
}

/* --- one call ---------------------------------------------------------------------------------------- */

typedef enum {
    CALL_LIST,
    CALL_INFO,
    CALL_INACTIVE,
    CALL_LIVE,
    CALL_DEFINE,
    CALL_START,
    CALL_SHUTDOWN,
    CALL_DESTROY
} CallKind;

static const char *const call_names[] = {"list",   "info",  "inactive_xml", "live_xml",
                                         "define", "start", "shutdown",     "destroy"};

/* One that changes a domain, kept until it happens. */
typedef struct {
    FakeHv *fake; /* NULL: none */
    CallKind kind;
    const char *uuid; /* of our table */
    VrShutdownMode mode;
    char *xml;
    guint due; /* the call before which it happens; 0: when the hypervisor is closed */
} Change;

struct SweepHv {
    VrHv hv;
    guint n, calls, at;
    SweepFault fault;
    guint back_at; /* the first call at which libvirtd is there again */
    const char *hit;
    gboolean lied;
    Change pending;
    GPtrArray *all; /* of fakes */
    FakeHv *fakes[SWEEP_GUESTS_MAX];
};

static gboolean happen(const Change *change, GError **error)
{
    VrHv *hv = change->fake ? &change->fake->hv : NULL;

    switch (change->kind) {
    case CALL_DEFINE:
        return hv->ops->define(hv, change->uuid, change->xml, error);
    case CALL_START:
        return hv->ops->start(hv, change->uuid, error);
    case CALL_SHUTDOWN:
        return hv->ops->shutdown(hv, change->uuid, change->mode, error);
    case CALL_DESTROY:
        return hv->ops->destroy(hv, change->uuid, error);
    default:
        return TRUE;
    }
}

static void settle_pending(SweepHv *hv)
{
    if (!hv->pending.fake)
        return;
    points_pause();
    happen(&hv->pending, NULL);
    points_resume();
    g_clear_pointer(&hv->pending.xml, g_free);
    hv->pending.fake = NULL;
}

static void postpone(SweepHv *hv, const Change *change, guint due)
{
    if (change->kind < CALL_DEFINE)
        return;
    hv->pending = *change;
    hv->pending.xml = g_strdup(change->xml);
    hv->pending.due = due;
}

void sweep_hv_restart(SweepHv *hv)
{
    for (guint i = 0; i < hv->n; i++)
        fake_hv_restart(hv->fakes[i]);
}

/* The call is not answered: what has become of it is told by *happens. */
static gboolean unanswered(SweepHv *hv, const Change *change, gboolean *happens)
{
    switch (hv->fault) {
    case SWEEP_HUNG_THEN_DONE:
        postpone(hv, change, hv->calls + 1);
        break;
    case SWEEP_HUNG_DONE_LATE:
        postpone(hv, change, hv->calls + SWEEP_LATE_CALLS);
        break;
    case SWEEP_RESTARTS_BEFORE:
    case SWEEP_RESTARTS_AFTER:
        hv->back_at = hv->calls + SWEEP_AWAY_CALLS;
        break;
    case SWEEP_GONE:
    case SWEEP_GONE_AFTER:
        hv->back_at = G_MAXUINT;
        break;
    default:
        break;
    }
    *happens = hv->fault == SWEEP_LOST_AFTER || hv->fault == SWEEP_RESTARTS_AFTER || hv->fault == SWEEP_GONE_AFTER;
    if (hv->fault >= SWEEP_HUNG && hv->fault <= SWEEP_HUNG_DONE_LATE)
        sweep_clock_skip(SWEEP_HANG_MS);
    return hv->fault != SWEEP_REFUSED;
}

static gboolean disconnected(GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "scripted: libvirt does not answer");
    return FALSE;
}

/* TRUE: the call may go on to its effect and its answer. */
static gboolean script(SweepHv *hv, const Change *change, GError **error)
{
    gboolean happens;

    hv->calls++;
    if (hv->pending.fake && hv->pending.due <= hv->calls)
        settle_pending(hv);
    if (hv->calls != hv->at) {
        if (hv->calls >= hv->back_at)
            return TRUE;
        sweep_clock_skip(1000);
        return disconnected(error);
    }
    if (hv->fault == SWEEP_LIES && change->kind != CALL_DEFINE)
        return TRUE;
    hv->hit = call_names[change->kind];
    if (hv->fault == SWEEP_LIES) {
        hv->lied = TRUE;
        return TRUE;
    }
    if (!unanswered(hv, change, &happens)) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "scripted refusal");
        return FALSE;
    }
    if (happens)
        happen(change, NULL);
    if (hv->fault == SWEEP_RESTARTS_BEFORE || hv->fault == SWEEP_RESTARTS_AFTER)
        sweep_hv_restart(hv);
    return disconnected(error);
}

static FakeHv *find(SweepHv *hv, const char *uuid, GError **error)
{
    for (guint i = 0; i < hv->n; i++)
        if (g_str_equal(uuids[i], uuid))
            return hv->fakes[i];
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain '%s'", uuid);
    return NULL;
}

static gboolean change(VrHv *ops, Change what, GError **error)
{
    SweepHv *hv = (SweepHv *)ops;
    gboolean ok;

    what.fake = find(hv, what.uuid, error);
    if (!what.fake)
        return FALSE;
    points_here("before", call_names[what.kind]);
    points_pause();
    hv->lied = FALSE;
    ok = script(hv, &what, error) && (hv->lied || happen(&what, error));
    points_resume();
    points_here("after", call_names[what.kind]);
    return ok;
}

/* The guest that is asked; NULL: there is none, or the script says no. */
static FakeHv *ask(VrHv *ops, const char *uuid, CallKind kind, GError **error)
{
    Change what = {.kind = kind, .fake = find((SweepHv *)ops, uuid, error)};

    return what.fake && script((SweepHv *)ops, &what, error) ? what.fake : NULL;
}

/* --- operations -------------------------------------------------------------------------------------- */

static GPtrArray *do_list(VrHv *ops, GError **error)
{
    SweepHv *hv = (SweepHv *)ops;
    const Change what = {.kind = CALL_LIST};
    GPtrArray *list;

    if (!script(hv, &what, error))
        return NULL;
    list = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < hv->n; i++) {
        g_autoptr(GPtrArray) one = hv->fakes[i]->hv.ops->list(&hv->fakes[i]->hv, NULL);
        if (one->len > 0)
            g_ptr_array_add(list, g_strdup(uuids[i]));
    }
    return list;
}

static gboolean do_lookup(VrHv *ops, const char *name, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    SweepHv *hv = (SweepHv *)ops;

    for (guint i = 0; i < hv->n; i++)
        if (hv->fakes[i]->hv.ops->lookup(&hv->fakes[i]->hv, name, uuid, NULL))
            return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain '%s'", name);
    return FALSE;
}

static gboolean do_info(VrHv *ops, const char *uuid, VrDomainInfo *info, GError **error)
{
    FakeHv *fake = ask(ops, uuid, CALL_INFO, error);

    memset(info, 0, sizeof(*info));
    return fake && fake->hv.ops->info(&fake->hv, uuid, info, error);
}

static char *do_inactive_xml(VrHv *ops, const char *uuid, GError **error)
{
    FakeHv *fake = ask(ops, uuid, CALL_INACTIVE, error);

    return fake ? fake->hv.ops->inactive_xml(&fake->hv, uuid, error) : NULL;
}

static char *do_live_xml(VrHv *ops, const char *uuid, GError **error)
{
    FakeHv *fake = ask(ops, uuid, CALL_LIVE, error);

    return fake ? fake->hv.ops->live_xml(&fake->hv, uuid, error) : NULL;
}

static gboolean do_job(VrHv *ops, const char *uuid, char **job, GError **error)
{
    FakeHv *fake = find((SweepHv *)ops, uuid, error);

    return fake && fake->hv.ops->job(&fake->hv, uuid, job, error);
}

static GPtrArray *do_kept_xml(VrHv *ops, const char *uuid, GError **error)
{
    FakeHv *fake = find((SweepHv *)ops, uuid, error);

    return fake ? fake->hv.ops->kept_xml(&fake->hv, uuid, error) : NULL;
}

static gboolean do_define(VrHv *ops, const char *uuid, const char *xml, GError **error)
{
    return fake_hv_is_of(xml, uuid, error) &&
           change(ops, (Change){.kind = CALL_DEFINE, .uuid = uuid, .xml = (char *)xml}, error);
}

static gboolean do_start(VrHv *ops, const char *uuid, GError **error)
{
    return change(ops, (Change){.kind = CALL_START, .uuid = uuid}, error);
}

static gboolean do_shutdown(VrHv *ops, const char *uuid, VrShutdownMode mode, GError **error)
{
    return change(ops, (Change){.kind = CALL_SHUTDOWN, .uuid = uuid, .mode = mode}, error);
}

static gboolean do_destroy(VrHv *ops, const char *uuid, GError **error)
{
    return change(ops, (Change){.kind = CALL_DESTROY, .uuid = uuid}, error);
}

static void do_wait_change(VrHv *ops, const char *uuid, gint64 deadline_ms)
{
    vr_clock_sleep_until(MIN(deadline_ms, vr_clock_now_ms() + 5));
}

static char *do_agent(VrHv *ops, const char *uuid, const char *command, int timeout_s, GError **error)
{
    FakeHv *fake = find((SweepHv *)ops, uuid, error);

    return fake ? fake->hv.ops->agent(&fake->hv, uuid, command, timeout_s, error) : NULL;
}

static GPtrArray *do_leases(VrHv *ops, const char *uuid, GError **error)
{
    FakeHv *fake = find((SweepHv *)ops, uuid, error);

    return fake ? fake->hv.ops->leases(&fake->hv, uuid, error) : NULL;
}

static char *do_nvram(VrHv *ops, const char *uuid, const char *xml, GError **error)
{
    FakeHv *fake = find((SweepHv *)ops, uuid, error);

    return fake ? fake->hv.ops->nvram(&fake->hv, uuid, xml, error) : NULL;
}

static void do_close(VrHv *ops)
{
}

static const VrHvOps ops_table = {.list = do_list,
                                  .lookup = do_lookup,
                                  .info = do_info,
                                  .job = do_job,
                                  .inactive_xml = do_inactive_xml,
                                  .live_xml = do_live_xml,
                                  .kept_xml = do_kept_xml,
                                  .define = do_define,
                                  .start = do_start,
                                  .shutdown = do_shutdown,
                                  .destroy = do_destroy,
                                  .wait_change = do_wait_change,
                                  .agent = do_agent,
                                  .leases = do_leases,
                                  .nvram = do_nvram,
                                  .close = do_close};

/* Linked in its place (--wrap): a scripted pool is a directory. */
char *__wrap_vr_connection_volume_path(VrHv *ops, const char *pool, const char *volume, GError **error);
char *__wrap_vr_connection_volume_path(VrHv *ops, const char *pool, const char *volume, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(((SweepHv *)ops)->fakes[0]->dir);
    g_autofree char *path = g_build_filename(dir, "..", "disks", volume, NULL);

    if (!g_str_equal(pool, "guests"))
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "no pool '%s'", pool);
    else if (!g_file_test(path, G_FILE_TEST_EXISTS))
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no volume '%s'", volume);
    else
        return g_steal_pointer(&path);
    return NULL;
}

SweepHv *sweep_hv_new(const char *dir, guint n)
{
    SweepHv *hv = g_new0(SweepHv, 1);

    hv->hv.ops = &ops_table;
    hv->n = n;
    hv->all = g_ptr_array_new();
    for (guint i = 0; i < n; i++) {
        g_autofree char *number = g_strdup_printf("%u", i);
        g_autofree char *path = g_build_filename(dir, number, NULL);
        hv->fakes[i] = fake_hv_new(path, NULL, FALSE);
        hv->fakes[i]->others = hv->all;
        g_ptr_array_add(hv->all, hv->fakes[i]);
    }
    return hv;
}

void sweep_hv_free(SweepHv *hv)
{
    if (!hv)
        return;
    settle_pending(hv);
    for (guint i = 0; i < hv->n; i++)
        fake_hv_free(hv->fakes[i]);
    g_ptr_array_unref(hv->all);
    g_free(hv);
}

VrHv *sweep_hv_ops(SweepHv *hv)
{
    return &hv->hv;
}

FakeHv *sweep_hv_fake(SweepHv *hv, guint guest)
{
    return hv->fakes[guest];
}

void sweep_hv_script(SweepHv *hv, guint at, SweepFault fault)
{
    hv->at = at;
    hv->fault = fault;
}

guint sweep_hv_calls(const SweepHv *hv)
{
    return hv->calls;
}

const char *sweep_hv_hit(const SweepHv *hv)
{
    return hv->hit;
}
