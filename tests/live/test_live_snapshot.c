/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J8: what is read of a run from outside, while it goes: the real engine, executor, journal and control socket over the scripted hypervisor. */
#include "engine/support.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/control.h"
#include "orchestrator/live/screen.h"
#include "orchestrator/live/snapshot.h"
#include "orchestrator/live/watch.h"
#include "orchestrator/shop.h"

#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef __SANITIZE_THREAD__
/* GLib is not instrumented: its slices go from thread to thread where the sanitizer does not see it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0.so\n";
}
#endif

static const char model_text[] =
    "schemaVersion: 1\nname: shop\nimageReference: {name: os}\nupgradePolicy: {approval: true}\n"
    "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\ninstances:\n- {domain: fake}\n";

typedef struct {
    World *world;
    VrSet *set;
    VrRunTarget target;
    VrExecutor *executor;
    VrControlServer *server;
    GThread *thread;
    int dir;
    char *run_id;         /* under lock */
    pthread_mutex_t lock; /* not of GLib, whose locks TSan does not see */
    GError *error;
} Stage;

static void told(const VrProgress *progress, void *data)
{
    Stage *stage = data;

    if (progress->kind != VR_PROGRESS_RUN)
        return;
    stage->server = vr_control_server_new(stage->dir, progress->run, stage->executor, NULL);
    pthread_mutex_lock(&stage->lock);
    stage->run_id = g_strdup(progress->run->id);
    pthread_mutex_unlock(&stage->lock);
}

static gpointer run_it(gpointer data)
{
    Stage *stage = data;

    (void)vr_executor_run(stage->executor, NULL, &stage->error);
    return NULL;
}

static Stage *stage_begin(gboolean fails)
{
    Stage *stage = g_new0(Stage, 1);
    World *world = stage->world = world_new(TRUE);
    VrRunRequest request = {.kind = VR_RUN_UPGRADE,
                            .image = world->image,
                            .targets = &stage->target,
                            .automatic_rollback = TRUE,
                            .progress = told,
                            .progress_data = stage};
    vr_autofd run = vr_mkdir_beneath(vr_store_root_fd(world->store), "run", 0700, NULL);

    pthread_mutex_init(&stage->lock, NULL);
    world->fake->deaf = TRUE; /* so it takes a second to stop */
    world->fake->fail_new_disk = fails;
    stage->set = shop_define(world, model_text);
    stage->set->model->health.timeout_ms = 300;
    stage->target.chosen = TRUE;
    stage->dir = vr_mkdir_beneath(vr_store_root_fd(world->store), "run/shop", 0700, NULL);
    assert_true(run >= 0 && stage->dir >= 0);
    request.set = stage->set;
    stage->executor = vr_executor_new(&world->engine, &request);
    stage->thread = g_thread_new("run", run_it, stage);
    return stage;
}

static void stage_end(Stage *stage)
{
    vr_control_server_free(stage->server);
    vr_executor_free(stage->executor);
    vr_fd_clear(&stage->dir);
    vr_set_free(stage->set);
    world_free(stage->world);
    g_clear_error(&stage->error);
    g_free(stage->run_id);
    g_free(stage);
}

static VrLiveSource *source_of(Stage *stage)
{
    VrLiveSource *source = NULL;

    for (guint i = 0; i < 2000 && !source; i++) {
        pthread_mutex_lock(&stage->lock);
        if (stage->run_id)
            source = vr_live_source_new(stage->world->store, stage->world->journal, stage->set, stage->run_id);
        pthread_mutex_unlock(&stage->lock);
        g_usleep(5000);
    }
    assert_non_null(source);
    return source;
}

static VrSnapshot *look(VrLiveSource *source)
{
    g_autoptr(GError) error = NULL;
    VrSnapshot *snapshot = vr_live_source_read(source, &error);

    assert_string_equal(error ? error->message : "", "");
    assert_string_equal(snapshot->set, "shop");
    assert_int_equal(snapshot->guests->len, 1);
    return snapshot;
}

/* Looks until it holds, for the approval. */
static void wait_hold(VrLiveSource *source)
{
    for (guint i = 0; i < 2000; i++) {
        g_autoptr(VrSnapshot) snapshot = look(source);
        if (snapshot->hold == VR_HOLD_APPROVAL) {
            assert_int_equal(snapshot->point, VR_POINT_APPROVAL);
            assert_non_null(strstr(snapshot->hold_text, "approve"));
            assert_true(snapshot->has_process && snapshot->answers && !snapshot->ended);
            assert_int_equal(((const VrLiveGuest *)snapshot->guests->pdata[0])->stage, VR_LIVE_WAITS);
            assert_int_equal(snapshot->hold_left_ms, -1);
            assert_int_equal(snapshot->left_ms, -1);
            return;
        }
        g_usleep(5000);
    }
    fail();
}

/* Looks until it has ended; *seen: a bit a stage, *stops_ms and *down_ms the longest. Returns the last snapshot. */
static VrSnapshot *look_to_the_end(VrLiveSource *source, guint *seen, gint64 *stops_ms, gint64 *down_ms)
{
    *seen = 0;
    *stops_ms = *down_ms = -1;
    for (guint i = 0; i < 6000; i++) {
        g_autoptr(VrSnapshot) snapshot = look(source);
        const VrLiveGuest *guest = snapshot->guests->pdata[0];
        *seen |= 1u << guest->stage;
        if (guest->stage == VR_LIVE_STOPS)
            *stops_ms = MAX(*stops_ms, guest->stage_ms);
        *down_ms = MAX(*down_ms, guest->down_ms);
        if (snapshot->ended)
            return g_steal_pointer(&snapshot);
        g_usleep(2000);
    }
    fail();
    return NULL;
}

static VrSnapshot *approve_and_look(Stage *stage, guint *seen, gint64 *stops_ms, gint64 *down_ms)
{
    g_autoptr(VrLiveSource) source = source_of(stage);
    g_autofree char *text = NULL;
    VrAnswer answer;
    VrSnapshot *snapshot;

    wait_hold(source);
    assert_true(vr_executor_control(stage->executor, VR_EVENT_APPROVE, 0, "a test", &answer, &text, NULL));
    snapshot = look_to_the_end(source, seen, stops_ms, down_ms);
    g_thread_join(stage->thread);
    return snapshot;
}

/* Each stage as it is seen from outside, with how long it has been there. */
static void a_run_that_comes_good(void **state)
{
    Stage *stage = stage_begin(FALSE);
    guint seen;
    gint64 stops_ms, down_ms;
    g_autoptr(VrSnapshot) end = approve_and_look(stage, &seen, &stops_ms, &down_ms);
    const VrLiveGuest *guest = end->guests->pdata[0];

    assert_string_equal(stage->error ? stage->error->message : "", "");
    assert_true(seen & (1u << VR_LIVE_STOPS));
    assert_true(stops_ms >= 0 && stops_ms < 60000);
    assert_true(down_ms >= stops_ms);
    assert_int_equal(guest->stage, VR_LIVE_DONE);
    assert_int_equal(guest->batch, 1);
    assert_int_equal(end->status, VR_RUN_COMPLETED);
    assert_true(end->elapsed_ms >= stops_ms);
    assert_string_equal(end->version, stage->world->image->version);
    stage_end(stage);
}

static void a_run_that_fails(void **state)
{
    Stage *stage = stage_begin(TRUE);
    guint seen;
    gint64 stops_ms, down_ms;
    g_autoptr(VrSnapshot) end = approve_and_look(stage, &seen, &stops_ms, &down_ms);
    const VrLiveGuest *guest = end->guests->pdata[0];

    assert_int_equal(guest->stage, VR_LIVE_BACK);
    assert_non_null(strstr(guest->reason, "QEMU does not start"));
    assert_int_equal(end->status, VR_RUN_FAULTED);
    assert_non_null(end->error_text);
    stage_end(stage);
}

/* What a guest's health says is seen as long as it is waited for, with the time that it has left. */
static void what_is_waited_for_is_said(void **state)
{
    Stage *stage = stage_begin(FALSE);
    g_autoptr(VrLiveSource) source = source_of(stage);
    g_autofree char *text = NULL;
    guint said = 0;
    VrAnswer answer;

    wait_hold(source);
    fake_hv_edit(stage->world->fake, "</devices>",
                 "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>");
    stage->set->model->health.source =
        VR_HEALTH_SOURCE_AGENT_FILE; /* the scripted guest has the channel, and no agent */
    stage->set->model->health.timeout_ms = 1500;
    assert_true(vr_executor_control(stage->executor, VR_EVENT_APPROVE, 0, "a test", &answer, &text, NULL));
    for (guint i = 0; i < 6000; i++) {
        g_autoptr(VrSnapshot) snapshot = look(source);
        const VrLiveGuest *guest = snapshot->guests->pdata[0];
        if (guest->answer) {
            said++;
            assert_true(guest->stage == VR_LIVE_PROBED || guest->stage == VR_LIVE_GOES_BACK);
            assert_string_equal(guest->answer, "the guest agent does not answer");
            assert_in_range(guest->answer_left_ms, 0, 1500);
        }
        if (vr_live_stage_in_flight(guest->stage))
            assert_true(guest->stage_ms >= 0);
        if (snapshot->ended)
            break;
        g_usleep(2000);
    }
    g_thread_join(stage->thread);
    assert_true(said > 0);
    g_autoptr(GArray) probes = vr_executor_probes(stage->executor);
    assert_int_equal(probes->len, 0);
    stage_end(stage);
}

/* Nobody has the set any more, and the run has no end. */
static void a_run_whose_process_is_gone(void **state)
{
    Stage *stage = stage_begin(FALSE);
    g_autoptr(VrLiveSource) source = source_of(stage);

    wait_hold(source);
    vr_executor_leave(stage->executor);
    g_thread_join(stage->thread);
    g_clear_pointer(&stage->server, vr_control_server_free);
    g_clear_pointer(&stage->world->owner, vr_owner_release);
    g_autoptr(VrSnapshot) snapshot = look(source);
    assert_false(snapshot->ended || snapshot->has_process);
    assert_int_equal(snapshot->point, VR_POINT_INTERRUPTED);
    assert_true(snapshot->detached);
    assert_int_equal(snapshot->left_ms, -1);
    stage_end(stage);
}

/* ---- the view itself ---- */

static VrSnapshot *look_now(void *data)
{
    return vr_live_source_read(data, NULL);
}

/* Everything that has come until the words do. */
static void read_until(int fd, GString *text, const char *words)
{
    char piece[4096];
    ssize_t n;

    for (guint i = 0; i < 3000 && !strstr(text->str, words); i++) {
        while ((n = read(fd, piece, sizeof(piece))) > 0)
            g_string_append_len(text, piece, n);
        g_usleep(10000);
    }
    assert_non_null(strstr(text->str, words));
}

/* Three threads: the run, its control socket, and the view. */
static void a_run_that_is_drawn(void **state)
{
    Stage *stage = stage_begin(FALSE);
    g_autoptr(VrLiveSource) source = source_of(stage);
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    VrWatchOptions options = {.read = look_now, .data = source};
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *said = NULL;
    vr_autofd reader = -1, terminal = -1;
    VrAnswer answer;

    g_setenv("TERM", "xterm", TRUE);
    assert_int_equal(openpty(&reader, &terminal, NULL, NULL, &size), 0);
    assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
    options.fd = terminal;
    assert_true(vr_screen_can(terminal));
    VrWatch *watch = vr_watch_begin(&options);
    read_until(reader, text, "approve");
    assert_true(vr_executor_control(stage->executor, VR_EVENT_APPROVE, 0, "a test", &answer, &said, NULL));
    g_thread_join(stage->thread);
    vr_watch_end(watch);
    read_until(reader, text, "Completed: 1 done");
    stage_end(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_comes_good),      cmocka_unit_test(a_run_that_fails),
        cmocka_unit_test(what_is_waited_for_is_said), cmocka_unit_test(a_run_whose_process_is_gone),
        cmocka_unit_test(a_run_that_is_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
