/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/signals.h"

#include "orchestrator/cli/job.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Under lock: written by the main thread, read by the waiting one. */
static struct {
    pthread_mutex_t lock;
    VrExecutor *executor;
    gboolean detached;
    guint asked; /* signals that this run has had */
    gint *flag;
    void (*relay)(int number, void *data);
    void *relay_data;
    gboolean job, left;
    gboolean ending; /* this job has had a SIGTERM that it did not die of */
    sigset_t awaited;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* As if it had never been blocked. */
static void die_of(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t one;

    sigaction(number, &action, NULL);
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
}

G_NORETURN void vr_signals_die_of(int number)
{
    struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    die_of(number);
    abort(); /* one whose default is not to end a process */
}

static void leave_run(void)
{
    if (!state.detached)
        fputs("\nfinishing the batch in flight; the run then stays open, as this host or its daemon goes down\n",
              stderr);
    state.left = TRUE;
    vr_executor_leave(state.executor);
}

static void cancel_run(int number)
{
    if (state.detached || (state.job && number == SIGTERM)) {
        leave_run();
        return;
    }
    if (state.job && number == SIGHUP && (state.asked > 0 || state.left))
        return;
    gboolean now = state.asked++ > 0;

    fputs(now ? "\nputting the guests in flight back on their old disks\n"
              : "\nfinishing the batch in flight; Ctrl-C again puts its guests back now\n",
          stderr);
    vr_executor_cancel(state.executor, now);
}

static void *wait_for_signals(void *unused)
{
    int number;

    for (;;) {
        if (sigwait(&state.awaited, &number) != 0)
            continue;
        pthread_mutex_lock(&state.lock);
        if (state.executor)
            cancel_run(number);
        else if (state.relay)
            state.relay(number, state.relay_data);
        else if (state.flag)
            g_atomic_int_set(state.flag, 1);
        else if (state.job && number == SIGTERM && !state.ending)
            state.ending = TRUE;
        else
            die_of(number);
        pthread_mutex_unlock(&state.lock);
    }
    return NULL;
}

/* One that is ignored from outside (nohup) stays so: a blocked signal would be delivered to sigwait all the same. */
static void await(int number)
{
    struct sigaction action;

    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
        sigaddset(&state.awaited, number);
}

void vr_signals_begin(void)
{
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    state.job = vr_job_is();
    sigemptyset(&state.awaited);
    await(SIGINT);
    await(SIGTERM);
    await(SIGHUP);
    pthread_sigmask(SIG_BLOCK, &state.awaited, NULL);
    if (pthread_create(&thread, NULL, wait_for_signals, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &state.awaited, NULL);
}

void vr_signals_set_run(VrExecutor *executor, gboolean detached)
{
    pthread_mutex_lock(&state.lock);
    if (executor && state.ending)
        die_of(SIGTERM); /* nothing has begun yet */
    state.executor = executor;
    state.detached = detached;
    state.asked = 0;
    state.left = FALSE;
    pthread_mutex_unlock(&state.lock);
}

void vr_signals_set_relay(void (*relay)(int number, void *data), void *data)
{
    pthread_mutex_lock(&state.lock);
    state.relay = relay;
    state.relay_data = data;
    pthread_mutex_unlock(&state.lock);
}

void vr_signals_set_flag(gint *cancelled)
{
    pthread_mutex_lock(&state.lock);
    state.flag = cancelled;
    pthread_mutex_unlock(&state.lock);
}
