/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/service.h"

#include <glib-unix.h>
#include <signal.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define EXTEND_S 15 /* more than one step below, which may come late */
#define EXTEND_STEP_S 5

typedef struct {
    VrServiceStop call;
    void *data;
} Hook;

typedef struct {
    guint number;
    char *why;
} Hold;

struct VrService {
    GMainLoop *loop;
    GArray *stops, *reloads; /* Hook */
    GPtrArray *holds;        /* Hold *, in the order in which they came */
    guint last_hold;
    char *status;     /* as it was said last */
    guint sources[5]; /* of GLib; 0: none */
    gboolean stopping, cut;
};

static void hold_free(Hold *hold)
{
    g_free(hold->why);
    g_free(hold);
}

/* ---- what the service manager hears ---- */

/* The latest hold is the one that is talked of. */
static void say_holds(VrService *service)
{
    const Hold *last = service->holds->len ? service->holds->pdata[service->holds->len - 1] : NULL;

    if (service->stopping && last)
        vr_service_status(service, "stopping: %s", last->why);
}

static gboolean ask_for_time(gpointer data)
{
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" G_GINT64_FORMAT, (gint64)EXTEND_S * G_USEC_PER_SEC);
    return G_SOURCE_CONTINUE;
}

static gboolean feed_watchdog(gpointer data)
{
    (void)sd_notify(0, "WATCHDOG=1");
    return G_SOURCE_CONTINUE;
}

void vr_service_status(VrService *service, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_strdelimit(text, "\n", ' ');
    if (g_strcmp0(text, service->status) == 0) /* a manager that does not read would be waited for */
        return;
    (void)sd_notifyf(0, "STATUS=%s", text);
    g_free(service->status);
    service->status = g_steal_pointer(&text);
}

/* ---- the stop ---- */

static void call_all(const GArray *hooks)
{
    for (guint i = 0; i < hooks->len; i++) {
        Hook hook = g_array_index(hooks, Hook, i);
        hook.call(hook.data);
    }
}

static void end_if_free(VrService *service)
{
    if (service->stopping && service->holds->len == 0)
        g_main_loop_quit(service->loop);
}

void vr_service_stop(VrService *service)
{
    if (service->stopping)
        return;
    service->stopping = TRUE;
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
    call_all(service->stops);
    say_holds(service);
    (void)ask_for_time(service);
    service->sources[4] = g_timeout_add_seconds(EXTEND_STEP_S, ask_for_time, service);
    end_if_free(service);
}

static gboolean on_end_signal(gpointer data)
{
    VrService *service = data;

    if (service->stopping) {
        service->cut = TRUE;
        g_main_loop_quit(service->loop);
    }
    vr_service_stop(service);
    return G_SOURCE_CONTINUE;
}

static gboolean on_hangup(gpointer data)
{
    VrService *service = data;

    if (!service->stopping)
        call_all(service->reloads);
    return G_SOURCE_CONTINUE;
}

static Hold *find_hold(const VrService *service, guint number)
{
    for (guint i = 0; i < service->holds->len; i++)
        if (((Hold *)service->holds->pdata[i])->number == number)
            return service->holds->pdata[i];
    return NULL;
}

guint vr_service_hold(VrService *service, guint number, const char *why)
{
    Hold *hold = number ? find_hold(service, number) : NULL;

    if (!hold) {
        hold = g_new0(Hold, 1);
        hold->number = ++service->last_hold;
        g_ptr_array_add(service->holds, hold);
    }
    g_free(hold->why);
    hold->why = g_strdup(why);
    say_holds(service);
    return hold->number;
}

void vr_service_release(VrService *service, guint number)
{
    Hold *hold = find_hold(service, number);

    if (!hold)
        return;
    g_ptr_array_remove(service->holds, hold);
    say_holds(service);
    end_if_free(service);
}

gboolean vr_service_stopping(const VrService *service)
{
    return service->stopping;
}

/* ---- its life ---- */

VrService *vr_service_new(void)
{
    VrService *service = g_new0(VrService, 1);

    service->loop = g_main_loop_new(NULL, FALSE);
    service->stops = g_array_new(FALSE, FALSE, sizeof(Hook));
    service->reloads = g_array_new(FALSE, FALSE, sizeof(Hook));
    service->holds = g_ptr_array_new_with_free_func((GDestroyNotify)hold_free);
    signal(SIGPIPE, SIG_IGN);
    service->sources[0] = g_unix_signal_add(SIGTERM, on_end_signal, service);
    service->sources[1] = g_unix_signal_add(SIGINT, on_end_signal, service);
    service->sources[2] = g_unix_signal_add(SIGHUP, on_hangup, service);
    return service;
}

void vr_service_free(VrService *service)
{
    if (!service)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(service->sources); i++)
        g_clear_handle_id(&service->sources[i], g_source_remove);
    g_main_loop_unref(service->loop);
    g_array_unref(service->stops);
    g_array_unref(service->reloads);
    g_ptr_array_unref(service->holds);
    g_free(service->status);
    g_free(service);
}

static void add_hook(GArray *hooks, VrServiceStop call, void *data)
{
    Hook hook = {call, data};

    g_array_append_val(hooks, hook);
}

void vr_service_add_stop(VrService *service, VrServiceStop stop, void *data)
{
    add_hook(service->stops, stop, data);
}

void vr_service_add_reload(VrService *service, VrServiceStop reload, void *data)
{
    add_hook(service->reloads, reload, data);
}

gboolean vr_service_run(VrService *service)
{
    uint64_t watchdog_us = 0;

    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        service->sources[3] = g_timeout_add((guint)MAX(watchdog_us / 3000, 1), feed_watchdog, service);
    (void)sd_notifyf(0, "READY=1\nMAINPID=%lu", (unsigned long)getpid());
    if (!service->stopping) /* by what began before */
        g_main_loop_run(service->loop);
    return !service->cut;
}
