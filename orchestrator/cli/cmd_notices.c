/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* notices: what was told to those outside, and what waits; --deliver tells it. */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/outbox_deliver.h"

#include <unistd.h>

#define PATIENCE_MS (15 * 60 * G_GINT64_CONSTANT(1000))
#define LOOK_MS 2000 /* what another process wrote meanwhile, and failed, may be due earlier */
#define WAITER ".notices-wait"

/* --- telling ----------------------------------------------------------------------------------------- */

/* One pass. The store is open for no longer, and what the configuration says now counts. *next_us: when more is due; 0: nothing waits. */
static gboolean deliver(const VrCli *cli, gint64 *next_us, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(VrConfig) config = vr_config_load(NULL, error);
    VrDb *db;

    *next_us = 0;
    if (!config || !vr_session_open_write(&session, cli, error))
        return FALSE;
    db = vr_store_db(session.store);
    return vr_outbox_deliver(db, vr_store_root_fd(session.store), config, error) &&
           vr_outbox_next(db, config, next_us, error);
}

/* NULL: another process stays for what is tried again, or no store is there. */
static VrLock *stay(const VrCli *cli)
{
    vr_autofd root = vr_dir_open(cli->options.root, NULL);
    vr_autofd locks = root < 0 ? -1 : vr_mkdir_beneath(root, "locks", 0700, NULL);
    g_autofree char *holder = g_strdup_printf("notices --deliver --wait (pid %d)", (int)getpid());

    return locks < 0 ? NULL : vr_lock_acquire(locks, WAITER, holder, NULL);
}

static gboolean deliver_and_wait(const VrCli *cli, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + PATIENCE_MS, next_us = 0;
    g_autoptr(VrLock) lock = NULL;

    for (;;) {
        gint64 now_ms;
        if (!g_file_test(cli->options.root, G_FILE_TEST_IS_DIR))
            return TRUE; /* it went while we waited */
        if (!deliver(cli, &next_us, error))
            return FALSE;
        if (next_us == 0 || (!lock && !(lock = stay(cli))))
            return TRUE;
        now_ms = vr_clock_now_ms();
        if (now_ms >= deadline_ms)
            return TRUE;
        vr_clock_sleep_until(now_ms + CLAMP((next_us - vr_clock_wall_us()) / 1000 + 1, 100, LOOK_MS));
    }
}

/* --- listing ----------------------------------------------------------------------------------------- */

/* "webhook, hook/mail waits (2 attempts)". Free with g_free. */
static char *deliveries_text(const VrOutboxNotice *notice)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < notice->deliveries->len; i++) {
        const VrDelivery *delivery = notice->deliveries->pdata[i];
        g_string_append_printf(text, "%s%s", text->len ? ", " : "", delivery->channel);
        if (delivery->state == VR_DELIVERY_GIVEN_UP)
            g_string_append(text, " given up");
        else if (delivery->state == VR_DELIVERY_WAITING)
            g_string_append_printf(text, " waits (%u attempts)", delivery->attempts);
    }
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

/* Why the oldest that waits for a channel does. */
static void say_reasons(const VrCli *cli, const GPtrArray *notices)
{
    g_autoptr(GHashTable) said = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = notices->len; i > 0; i--) {
        const VrOutboxNotice *notice = notices->pdata[i - 1];
        for (guint k = 0; k < notice->deliveries->len; k++) {
            const VrDelivery *delivery = notice->deliveries->pdata[k];
            if (delivery->error && delivery->state == VR_DELIVERY_WAITING && g_hash_table_add(said, delivery->channel))
                vr_say_why(cli, delivery->channel, delivery->error);
        }
    }
}

static void show(const VrCli *cli, const GPtrArray *notices, gint64 next_us)
{
    static const char *const headings[] = {"TIME", "NOTICE", "SET", "RUN", "OUTCOME", "DELIVERED", NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < notices->len; i++) {
        const VrOutboxNotice *notice = notices->pdata[i];
        g_autofree char *at = vr_text_time(notice->at_us), *outcome = vr_outbox_outcome(notice);
        g_autofree char *delivered = deliveries_text(notice);
        const char *cells[] = {at,       vr_outbox_kind_name(notice->kind), notice->set_name, notice->run_id, outcome,
                               delivered};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
    say_reasons(cli, notices);
    if (next_us > 0) {
        g_autofree char *next = vr_text_time(next_us);
        vr_say(cli, "next delivery: %s", next);
    }
}

static json_t *notice_json(const VrOutboxNotice *notice)
{
    json_t *document = json_loads(notice->body, 0, NULL), *list = json_array();

    for (guint i = 0; i < notice->deliveries->len; i++) {
        const VrDelivery *delivery = notice->deliveries->pdata[i];
        json_array_append_new(list, json_pack("{s:o, s:s, s:i, s:o, s:o}", "channel", vr_json_text(delivery->channel),
                                              "state", vr_delivery_state_name(delivery->state), "attempts",
                                              (int)delivery->attempts, "lastAttempt", vr_json_time(delivery->at_us),
                                              "error", vr_json_text(delivery->error)));
    }
    json_object_set_new(document, "deliveries", list);
    return document;
}

static void show_json(const GPtrArray *notices, gint64 next_us)
{
    json_t *list = json_array();

    for (guint i = 0; i < notices->len; i++)
        json_array_append_new(list, notice_json(notices->pdata[i]));
    vr_json_print(json_pack("{s:o, s:o}", "notices", list, "nextDelivery", vr_json_time(next_us)));
}

static gboolean list(const VrCli *cli, GError **error)
{
    const char *set_name = cli->n_args > 0 ? cli->args[0] : NULL;
    g_auto(VrSession) session = {0};
    g_autoptr(VrConfig) config = vr_config_load(NULL, error);
    g_autoptr(GPtrArray) notices = NULL;
    gint64 next_us;

    if (!config || !vr_session_open_read(&session, cli, error))
        return FALSE;
    notices = vr_outbox_list(vr_store_db(session.store), set_name, error);
    if (!notices || !vr_outbox_next(vr_store_db(session.store), config, &next_us, error))
        return FALSE;
    if (cli->options.json)
        show_json(notices, next_us);
    else
        show(cli, notices, next_us);
    return TRUE;
}

gboolean vr_cmd_notices(const VrCli *cli, GError **error)
{
    gint64 unused;

    if (cli->options.wait && !cli->options.deliver)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--wait goes with --deliver");
    else if (cli->options.deliver && (cli->n_args > 0 || cli->options.json))
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--deliver tells what waits of all sets, and answers nothing");
    else if (cli->options.wait)
        return deliver_and_wait(cli, error);
    else
        return cli->options.deliver ? deliver(cli, &unused, error) : list(cli, error);
    return FALSE;
}
